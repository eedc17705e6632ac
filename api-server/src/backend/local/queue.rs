//! How many programs run at once, and how many wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::backend::BackendError;

/// Places in the queue for each program that may run.
const WAITING_PER_RUNNING: usize = 16;

/// When it is worth asking again, in seconds.
const RETRY_AFTER: u32 = 2;

/// Turns at running a program.
#[derive(Debug)]
pub struct Queue {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    patience: Duration,
}

impl Queue {
    /// A queue for `running` programs at once, in which nobody waits longer than `patience`.
    #[must_use]
    pub fn new(running: usize, patience: Duration) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(running)),
            waiting: AtomicUsize::new(0),
            most_waiting: running * WAITING_PER_RUNNING,
            patience,
        }
    }

    /// Waits for a turn, in the order of asking. The turn lasts until what is returned is dropped.
    ///
    /// # Errors
    /// [`BackendError::Busy`] when too many wait already, or it took too long.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, BackendError> {
        let busy = BackendError::Busy {
            retry_after: RETRY_AFTER,
        };
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let place = Place(&self.waiting);
        if place.0.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            return Err(busy);
        }
        match timeout(self.patience, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(busy),
        }
    }
}

/// A place in the queue, given back however the waiting ends.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_queue_holds_are_turned_away_at_once() {
        let queue = Queue::new(1, Duration::from_secs(60));
        let running = queue.turn().await.unwrap();
        let mut waiting: Vec<_> = (0..16).map(|_| Box::pin(queue.turn())).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one.as_mut()).is_pending());
        }
        assert!(matches!(queue.turn().await, Err(BackendError::Busy { .. })));
        // One that gives up makes room for another.
        drop(waiting.pop());
        let mut another = Box::pin(queue.turn());
        assert!(futures::poll!(another.as_mut()).is_pending());
        drop(running);
        assert!(waiting.remove(0).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let queue = Queue::new(1, Duration::from_secs(60));
        let _running = queue.turn().await.unwrap();
        assert!(matches!(queue.turn().await, Err(BackendError::Busy { .. })));
    }
}
