//! An execution's place in its pool: from the queue to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::idle::WarmPod;
use super::state::Pools;

/// What an execution may do now.
pub enum Turn {
    /// Claim this Pod.
    Warm(Box<WarmPod>),
    /// Start a Pod of its own.
    Cold,
}

/// The pool takes no more executions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many wait as may.
    #[error("pool {pool} has {waiting} executions waiting, as many as its queueLimit allows")]
    QueueFull {
        /// The pool.
        pool: String,
        /// Its executions that wait.
        waiting: usize,
    },
    /// At the pace of the last half minute, its turn would come too late.
    #[error("pool {pool} has {waiting} executions waiting, too many for this one's turn to come in time")]
    TooSlow {
        /// The pool.
        pool: String,
        /// Its executions that wait.
        waiting: usize,
    },
}

/// Held by an execution for as long as it counts for its pool. Dropping it lets the next one in.
pub struct Place {
    pools: Arc<Pools>,
    pool: String,
    user: String,
    uid: String,
    turn_rx: Option<oneshot::Receiver<Turn>>,
}

impl Place {
    pub(super) fn new(
        pools: Arc<Pools>,
        pool: &str,
        user: &str,
        uid: &str,
        turn_rx: Option<oneshot::Receiver<Turn>>,
    ) -> Self {
        Self {
            pools,
            pool: pool.to_owned(),
            user: user.to_owned(),
            uid: uid.to_owned(),
            turn_rx,
        }
    }

    /// The execution's turn, once; then nothing more.
    pub async fn turn(&mut self) -> Turn {
        if let Some(turn_rx) = &mut self.turn_rx {
            let turn = turn_rx.await;
            self.turn_rx = None;
            if let Ok(turn) = turn {
                return turn;
            }
        }
        std::future::pending().await
    }

    /// The same, if it has come.
    pub fn try_turn(&mut self) -> Option<Turn> {
        let turn = self.turn_rx.as_mut()?.try_recv().ok()?;
        self.turn_rx = None;
        Some(turn)
    }

    /// A ready Pod for an execution whose turn it is already, because the one that it got was none.
    pub fn another(&self, timeout: Duration) -> Option<Box<WarmPod>> {
        self.pools.another(&self.pool, &self.uid, timeout)
    }

    /// Puts a Pod back that was not claimed after all, or that may serve this user again.
    pub fn give_back(&self, warm: WarmPod) {
        self.pools.put_back(&self.pool, &self.user, warm);
    }

    /// The execution starts a Pod of its own after all.
    pub fn starts_cold(&self) {
        self.pools.set_starting(&self.pool, &self.uid, true);
    }

    /// Its own Pod has come up.
    pub fn has_started(&self) {
        self.pools.set_starting(&self.pool, &self.uid, false);
    }

    /// How many turns come before its own; nothing when it does not wait.
    pub fn position(&self) -> Option<usize> {
        self.pools.position(&self.pool, &self.uid)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A turn that came too late: its Pod is still nobody's.
        if let Some(Turn::Warm(warm)) = self.try_turn() {
            self.pools.put_back(&self.pool, &self.user, *warm);
        }
        self.pools.leave(&self.pool, &self.uid);
    }
}
