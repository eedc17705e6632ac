//! Keeps a watch up: renewed where it ended, begun anew where its thread was lost, told when it is silent.
//!
//! kube's own watcher lists whole objects first, which would be a dump of every retained output.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use kube::Resource;
use kube::api::WatchEvent;
use tokio::time::{Instant, sleep, timeout};

use super::api::ApiError;

/// A watch that says nothing for so long is given up: bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(100);

/// Pauses between failed attempts grow up to this; service resumes by itself within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A watch that ends sooner was cut by something in between, which must not become a busy loop.
const SHORT: Duration = Duration::from_secs(1);

/// Why a watch can't be resumed where it ended.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It can't be opened, or what precedes it not be read.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// It broke.
    #[error("the watch failed: {0}")]
    Stream(#[from] kube::Error),
    /// The Kubernetes API ended it, such as for a version that is too old.
    #[error("the watch failed: {0}")]
    Told(Box<kube::core::Status>),
    /// It says nothing any more.
    #[error("the watch fell silent")]
    Silent,
}

/// What a watch shows of an object.
#[derive(Debug)]
pub enum Change<K> {
    /// It was created, or is one of those that are watched from now on.
    Added(K),
    /// It was changed.
    Modified(K),
    /// It was deleted, or is not one of those that are watched any more.
    Deleted(K),
}

/// Attempts at keeping a watch up.
#[derive(Debug)]
struct Attempts {
    begun: Instant,
    pause: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            pause: Duration::ZERO,
        }
    }
}

/// Whether a watch stands.
#[derive(Clone, Debug)]
pub struct Standing {
    name: &'static str,
    is_up: Arc<AtomicBool>,
}

impl Standing {
    /// That of a watch which has not begun. The name stands in log lines.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            is_up: Arc::default(),
        }
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Attempts for ever, each from its beginning until the thread is lost.
    pub async fn keep<F>(&self, attempt: impl Fn() -> F) -> Infallible
    where
        F: Future<Output = Result<Infallible, Lost>>,
    {
        let mut attempts = Attempts::default();
        loop {
            match attempt().await {
                Ok(never) => match never {},
                Err(lost) => self.pause_after(&mut attempts, &lost).await,
            }
        }
    }

    /// Pauses before the next attempt, the longer the more of them have failed in a row.
    async fn pause_after(&self, attempts: &mut Attempts, lost: &Lost) {
        let was_up = self.is_up.swap(false, Ordering::Relaxed);
        // One that stood for a while broke by chance, and the next attempt comes at once.
        attempts.pause = match was_up && attempts.begun.elapsed() > LONGEST_PAUSE {
            true => Duration::ZERO,
            false => (attempts.pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE),
        };
        let name = self.name;
        // The first failure of a row is told, the others only to who looks closer.
        if was_up || attempts.pause <= Duration::from_millis(100) {
            tracing::warn!(error = %lost, "the watch of {name} is down");
        } else {
            tracing::debug!(error = %lost, "the watch of {name} is still down");
        }
        sleep(attempts.pause).await;
        attempts.begun = Instant::now();
    }

    /// Tells what a watch shows from `version` on, until the thread is lost.
    ///
    /// # Errors
    /// [`Lost`], always.
    pub async fn follow<K, S, O>(
        &self,
        mut version: String,
        open: impl Fn(String) -> O,
        mut tell: impl FnMut(Change<K>),
    ) -> Result<Infallible, Lost>
    where
        K: Resource,
        S: Stream<Item = kube::Result<WatchEvent<K>>>,
        O: Future<Output = Result<S, ApiError>>,
    {
        loop {
            let events = open(version.clone()).await?;
            pin_mut!(events);
            let opened = Instant::now();
            if !self.is_up.swap(true, Ordering::Relaxed) {
                tracing::info!("the watch of {} is up", self.name);
            }
            while let Some(event) = timeout(SILENCE, events.next()).await.map_err(|_| Lost::Silent)? {
                let change = match event? {
                    WatchEvent::Added(object) => Change::Added(object),
                    WatchEvent::Modified(object) => Change::Modified(object),
                    WatchEvent::Deleted(object) => Change::Deleted(object),
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(status) => return Err(Lost::Told(status)),
                };
                let (Change::Added(object) | Change::Modified(object) | Change::Deleted(object)) = &change;
                version = object.meta().resource_version.clone().unwrap_or(version);
                tell(change);
            }
            if opened.elapsed() < SHORT {
                sleep(SHORT / 10).await;
            }
        }
    }
}
