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
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    patience: Duration,
}

impl Queue {
    /// A queue for `running` programs at once, in which nobody waits longer than `patience`.
    #[must_use]
    pub fn new(running: usize, patience: Duration) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(running)),
            waiting: Arc::default(),
            most_waiting: running * WAITING_PER_RUNNING,
            patience,
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`BackendError::Busy`] when too many wait already.
    pub fn place(&self) -> Result<Place, BackendError> {
        let turn = self.turns.clone().try_acquire_owned().ok();
        let waiting = match turn {
            Some(_) => None,
            None => Some(Waiting::among(&self.waiting)),
        };
        if waiting
            .as_ref()
            .is_some_and(|waiting| waiting.before >= self.most_waiting)
        {
            return Err(BUSY);
        }
        Ok(Place {
            turn,
            _waiting: waiting,
            turns: self.turns.clone(),
            patience: self.patience,
        })
    }
}

const BUSY: BackendError = BackendError::Busy {
    retry_after: RETRY_AFTER,
};

/// A place in the queue. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    turn: Option<OwnedSemaphorePermit>,
    /// Until the turn comes.
    _waiting: Option<Waiting>,
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Place {
    /// Waits for the turn, in the order of asking. It lasts until what is returned is dropped.
    ///
    /// # Errors
    /// [`BackendError::Busy`] when it took too long.
    pub async fn turn(mut self) -> Result<OwnedSemaphorePermit, BackendError> {
        if let Some(turn) = self.turn.take() {
            return Ok(turn);
        }
        match timeout(self.patience, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(BUSY),
        }
    }
}

/// One of those that wait, however the waiting ends.
#[derive(Debug)]
struct Waiting {
    all: Arc<AtomicUsize>,
    before: usize,
}

impl Waiting {
    fn among(all: &Arc<AtomicUsize>) -> Self {
        Self {
            before: all.fetch_add(1, Ordering::Relaxed),
            all: all.clone(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_queue_holds_are_turned_away_at_once() {
        let queue = Queue::new(1, Duration::from_secs(60));
        let running = queue.place().unwrap().turn().await.unwrap();
        let mut waiting: Vec<_> = (0..16).map(|_| Box::pin(queue.place().unwrap().turn())).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one.as_mut()).is_pending());
        }
        assert!(matches!(queue.place(), Err(BackendError::Busy { .. })));
        // One that gives up makes room for another.
        drop(waiting.pop());
        let mut another = Box::pin(queue.place().unwrap().turn());
        assert!(futures::poll!(another.as_mut()).is_pending());
        drop(running);
        assert!(waiting.remove(0).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let queue = Queue::new(1, Duration::from_secs(60));
        let _running = queue.place().unwrap().turn().await.unwrap();
        let turn = queue.place().unwrap().turn().await;
        assert!(matches!(turn, Err(BackendError::Busy { .. })));
    }
}
