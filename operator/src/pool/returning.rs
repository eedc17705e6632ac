//! Pods that are being made clean for their users, and the executions that wait for them.
//!
//! A user's next execution often comes at the very moment at which the last one's Pod is on its way back. An idle
//! Pod would serve it a few milliseconds sooner, but costs the node the start of another one in its place, and at a
//! busy moment that start takes the processor from all that are on their way back.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::state::Waiting;

/// How long an execution waits for such a Pod before it takes what else there is: a fresh interpreter takes 30 ms on
/// an idle node, and several times as long on a busy one.
const PATIENCE: Duration = Duration::from_millis(250);

/// The weight of the last Pod's time in the average, as its inverse.
const SMOOTHING: u32 = 4;

/// Pods on their way back, and to whom they are promised, by user.
#[derive(Default)]
pub struct Returning {
    users: HashMap<String, Coming>,
    /// How long they take, averaged.
    usual: Duration,
}

#[derive(Default)]
struct Coming {
    pods: usize,
    /// Never more than there are Pods; the first gets the first.
    promised: VecDeque<Promised>,
}

/// An execution that waits for a Pod of its user.
pub struct Promised {
    pub uid: String,
    pub waiting: Waiting,
    since: Instant,
}

impl Returning {
    /// One more Pod is on its way to its user.
    pub fn begin(&mut self, user: &str) {
        self.users.entry(user.to_owned()).or_default().pods += 1;
    }

    /// One has come back after this time, or will not come. The execution to which it was the last hope, if any.
    pub fn end(&mut self, user: &str, took: Duration) -> Option<Promised> {
        self.usual = (self.usual * (SMOOTHING - 1) + took) / SMOOTHING;
        let coming = self.users.get_mut(user)?;
        coming.pods = coming.pods.saturating_sub(1);
        let hopeless = (coming.promised.len() > coming.pods)
            .then(|| coming.promised.pop_back())
            .flatten();
        if coming.pods == 0 {
            self.users.remove(user);
        }
        hopeless
    }

    /// Whether one is on its way to this user that is promised to nobody, and will be there soon enough.
    pub fn has_one_for(&self, user: &str) -> bool {
        let coming = self.users.get(user);
        self.usual < PATIENCE && coming.is_some_and(|coming| coming.pods > coming.promised.len())
    }

    /// Promises it.
    pub fn promise(&mut self, uid: String, waiting: Waiting) {
        if let Some(coming) = self.users.get_mut(&waiting.user) {
            coming.promised.push_back(Promised {
                uid,
                waiting,
                since: Instant::now(),
            });
        }
    }

    /// The execution to which a Pod with so much life left is promised.
    pub fn take(&mut self, user: &str, life: Duration) -> Option<Promised> {
        let promised = &mut self.users.get_mut(user)?.promised;
        let at = promised.iter().position(|one| one.waiting.life < life)?;
        promised.remove(at)
    }

    /// Those that have waited for too long.
    pub fn overdue(&mut self) -> Vec<Promised> {
        let mut out = Vec::new();
        for coming in self.users.values_mut() {
            while let Some(promised) = coming
                .promised
                .pop_front_if(|one| one.since.elapsed() >= PATIENCE)
            {
                out.push(promised);
            }
        }
        out
    }

    /// When the next one will have.
    pub fn until_overdue(&self) -> Option<Duration> {
        let first = self.users.values().filter_map(|coming| coming.promised.front());
        first
            .map(|promised| PATIENCE.saturating_sub(promised.since.elapsed()))
            .min()
    }

    /// Forgets an execution.
    pub fn remove(&mut self, uid: &str) {
        for coming in self.users.values_mut() {
            coming.promised.retain(|promised| promised.uid != uid);
        }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn waiting(user: &str) -> Waiting {
        Waiting {
            user: user.to_owned(),
            turn_tx: oneshot::channel().0,
            life: Duration::from_secs(30),
            warm: true,
            patient: true,
        }
    }

    #[test]
    fn the_first_to_wait_gets_the_first_pod_that_lives_long_enough() {
        let mut returning = Returning::default();
        for uid in ["a1", "a2", "a3"] {
            returning.begin("a");
            assert!(returning.has_one_for("a") && !returning.has_one_for("b"));
            returning.promise(uid.to_owned(), waiting("a"));
        }
        assert!(!returning.has_one_for("a"));
        assert!(returning.take("a", Duration::from_secs(30)).is_none(), "too old");
        assert!(returning.take("b", Duration::from_secs(60)).is_none());
        let first = returning.take("a", Duration::from_secs(60));
        assert_eq!(first.map(|first| first.uid).as_deref(), Some("a1"));
        assert!(returning.end("a", Duration::ZERO).is_none(), "that Pod came back");
        let last = returning.end("a", Duration::ZERO);
        assert_eq!(
            last.map(|last| last.uid).as_deref(),
            Some("a3"),
            "that one did not"
        );
        returning.remove("a2");
        assert!(returning.end("a", Duration::ZERO).is_none());
        assert!(returning.is_empty());
    }

    #[test]
    fn nobody_waits_where_pods_take_too_long_to_come_back() {
        let mut returning = Returning::default();
        for _ in 0..10 {
            returning.begin("a");
            returning.end("a", Duration::from_secs(2));
        }
        returning.begin("a");
        assert!(!returning.has_one_for("a"));
        for _ in 0..10 {
            returning.begin("a");
            returning.end("a", Duration::from_millis(30));
        }
        assert!(returning.has_one_for("a"));
    }

    #[test]
    fn waiting_ends_with_the_patience() {
        let mut returning = Returning::default();
        returning.begin("a");
        assert_eq!(returning.until_overdue(), None);
        returning.promise("a1".to_owned(), waiting("a"));
        assert!(returning.overdue().is_empty());
        assert!(returning.until_overdue().is_some_and(|left| left <= PATIENCE));
        for promised in returning
            .users
            .values_mut()
            .flat_map(|coming| &mut coming.promised)
        {
            promised.since -= PATIENCE;
        }
        assert_eq!(returning.until_overdue(), Some(Duration::ZERO));
        assert_eq!(returning.overdue().len(), 1);
        assert!(returning.has_one_for("a"), "it may be promised again");
    }
}
