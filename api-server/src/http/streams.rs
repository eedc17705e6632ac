//! How many clients may follow executions at once: each holds a connection here and, on a cluster, two to the
//! Kubernetes API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ApiError;

/// Most streams of one user: a browser has that many tabs, and a server that follows for many users has its own name
/// for each.
const OF_ONE_USER: u32 = 32;

/// After how many seconds one who was refused may try again.
const RETRY_AFTER: u32 = 5;

/// Those who follow.
#[derive(Clone, Debug)]
pub struct Streams {
    most: u32,
    by_user: Arc<Mutex<HashMap<String, u32>>>,
}

impl Streams {
    /// At most so many at once.
    #[must_use]
    pub fn at_most(most: u32) -> Self {
        Self {
            most,
            by_user: Arc::default(),
        }
    }

    /// Lets one in.
    ///
    /// # Errors
    /// 503, where there are too many.
    pub fn enter(&self, user: &str) -> Result<Listener, ApiError> {
        let mut by_user = self.lock();
        let all: u32 = by_user.values().sum();
        let own = by_user.get(user).copied().unwrap_or_default();
        if all >= self.most || own >= OF_ONE_USER {
            let message = "too many executions are being followed; GET /api/executions/{id} has the result";
            return Err(ApiError::unavailable("too_many_streams", message, RETRY_AFTER));
        }
        by_user.insert(user.to_owned(), own + 1);
        Ok(Listener {
            streams: self.clone(),
            user: user.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        // Nothing in here can panic halfway through a change.
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who follows. Dropping it makes room.
#[derive(Debug)]
pub struct Listener {
    streams: Streams,
    user: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut by_user = self.streams.lock();
        match by_user.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn a_user_and_all_together_have_a_bound_and_who_leaves_makes_room() {
        let streams = Streams::at_most(OF_ONE_USER + 1);
        let mut listeners: Vec<_> = (0..OF_ONE_USER).map(|_| streams.enter("a").unwrap()).collect();
        assert_eq!(streams.enter("a").unwrap_err().code, "too_many_streams");
        let other = streams.enter("b").unwrap();
        assert!(streams.enter("c").is_err());
        listeners.pop();
        let third = streams.enter("c").unwrap();
        drop((listeners, other, third));
        assert!(streams.lock().is_empty());
    }
}
