//! One watch for every request of this replica. It sees only what the replica created, and no dump of it.
//!
//! ```text
//!            ┌───────────────── 410, broken, silent ────────────────┐
//!            ▼                                                     │
//!   version of a metadata list ──▶ GET what is waited for ──▶ watch from that version ──▶ waiters
//!                                                                  ▲    │
//!                                                                  └────┘ renewed at the last version
//! ```

use std::convert::Infallible;

use futures::{StreamExt, stream};

use super::api::{ApiError, Executions};
use super::follow::{Change, Lost, Standing};
use super::waiters::Waiters;

/// Reads at once after a lost watch.
const GETS_AT_ONCE: usize = 8;

/// The watch and whether it stands.
#[derive(Clone, Debug)]
pub struct Watch {
    executions: Executions,
    waiters: Waiters,
    standing: Standing,
}

impl Watch {
    /// A watch that serves `waiters`. It does nothing until [`Watch::run`].
    #[must_use]
    pub fn new(executions: Executions, waiters: Waiters) -> Self {
        Self {
            executions,
            waiters,
            standing: Standing::new("executions"),
        }
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.standing.is_up()
    }

    /// Watches for ever.
    pub async fn run(self) {
        self.standing.keep(|| self.attempt()).await;
    }

    /// From a fresh version on until the thread is lost.
    async fn attempt(&self) -> Result<Infallible, Lost> {
        let version = self.executions.version().await?;
        // After the version was taken, so that what ends from now on is in the watch, and what ended before is
        // found here. One that registers later is created later still.
        self.look_at_waited_for().await?;
        let open = |version: String| {
            let executions = self.executions.clone();
            async move { executions.watch(&version).await }
        };
        let tell = |change| match change {
            Change::Added(record) | Change::Modified(record) => self.waiters.seen(record),
            Change::Deleted(record) => self.waiters.deleted(record),
        };
        self.standing.follow(version, open, tell).await
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
