//! The one watch that all waiters of this replica share.
//!
//! ```text
//!            ┌──────────────── 410, broken, silent ────────────────┐
//!            ▼                                                     │
//!   version of a metadata list ──▶ GET what is waited for ──▶ watch from that version ──▶ waiters
//!                                                                  ▲    │
//!                                                                  └────┘ renewed at the last version
//! ```
//!
//! kube's own watcher lists whole objects first, which would be a dump of every retained output.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, pin_mut, stream};
use kube::api::WatchEvent;
use tokio::time::{Instant, sleep, timeout};

use super::api::{ApiError, Executions};
use super::waiters::Waiters;

/// A watch that says nothing for so long is given up: bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(100);

/// Pauses between failed attempts grow up to this; service resumes by itself within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A watch that ends sooner was cut by something in between, which must not become a busy loop.
const SHORT: Duration = Duration::from_secs(1);

/// Reads at once after a lost watch.
const GETS_AT_ONCE: usize = 8;

/// Why a watch can't be resumed where it ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("the watch failed: {0}")]
    Stream(#[from] kube::Error),
    #[error("the watch failed: {0}")]
    Told(Box<kube::core::Status>),
    #[error("the watch fell silent")]
    Silent,
}

/// The watch and whether it stands.
#[derive(Clone, Debug)]
pub struct Watch {
    executions: Executions,
    waiters: Waiters,
    up: Arc<AtomicBool>,
}

impl Watch {
    /// A watch that serves `waiters`. It does nothing until [`Watch::run`].
    #[must_use]
    pub fn new(executions: Executions, waiters: Waiters) -> Self {
        Self {
            executions,
            waiters,
            up: Arc::default(),
        }
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Watches for ever.
    pub async fn run(self) {
        let mut pause = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let lost = match self.follow().await {
                Ok(never) => match never {},
                Err(lost) => lost,
            };
            let was_up = self.up.swap(false, Ordering::Relaxed);
            // One that stood for a while broke by chance, and the next attempt comes at once.
            pause = match was_up && begun.elapsed() > LONGEST_PAUSE {
                true => Duration::ZERO,
                false => (pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE),
            };
            // The first failure of a row is told, the others only to who looks closer.
            if was_up || pause <= Duration::from_millis(100) {
                tracing::warn!(error = %lost, "the watch of executions is down");
            } else {
                tracing::debug!(error = %lost, "the watch of executions is still down");
            }
            sleep(pause).await;
        }
    }

    /// From a fresh version on until the thread is lost.
    async fn follow(&self) -> Result<std::convert::Infallible, Lost> {
        let mut version = self.executions.version().await?;
        // After the version was taken, so that what ends from now on is in the watch, and what ended before is
        // found here. One that registers later is created later still.
        self.look_at_waited_for().await?;
        loop {
            let events = self.executions.watch(&version).await?;
            pin_mut!(events);
            let opened = Instant::now();
            if !self.up.swap(true, Ordering::Relaxed) {
                tracing::info!("the watch of executions is up");
            }
            while let Some(event) = timeout(SILENCE, events.next()).await.map_err(|_| Lost::Silent)? {
                match event? {
                    WatchEvent::Added(record) | WatchEvent::Modified(record) => {
                        version = record.metadata.resource_version.clone().unwrap_or(version);
                        self.waiters.seen(record);
                    }
                    WatchEvent::Deleted(record) => {
                        version = record.metadata.resource_version.clone().unwrap_or(version);
                        self.waiters.deleted(record);
                    }
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    WatchEvent::Error(status) => return Err(Lost::Told(status)),
                }
            }
            if opened.elapsed() < SHORT {
                sleep(SHORT / 10).await;
            }
        }
    }

    async fn look_at_waited_for(&self) -> Result<(), Lost> {
        let mut reads = stream::iter(self.waiters.names())
            .map(|name| async move {
                let record = self.executions.get(&name).await;
                (name, record)
            })
            .buffer_unordered(GETS_AT_ONCE);
        while let Some((name, record)) = reads.next().await {
            match record {
                Ok(Some(record)) => self.waiters.seen(record),
                Ok(None) => self.waiters.missing(&name),
                // One that can't be read must not keep the others from theirs; its own waiter looks again.
                Err(ApiError::Kube(kube::Error::SerdeError(error))) => {
                    tracing::error!(%name, %error, "failed to read CodeExecution");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
