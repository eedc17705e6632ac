//! How many executions a user may begin within a minute, and how many may be under way at once.
//!
//! ```text
//!   request ── admit ──▶ ledger ◀── seen, ended ── with Kubernetes: the metadata watch, which shows every replica's
//!               │                                  local: nobody else
//!               ├── admitted: counted from now on; a create that is refused is taken back
//!               └── refused: 429, counted nowhere
//! ```
//!
//! With Kubernetes one replica is exact, and several admit no more than one execution each beyond the quota (see
//! [`ledger::Ledger::admit`]). Nothing is kept but a few numbers for each execution of the last minute.

pub mod ledger;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codeexec_crds::bounds;
use codeexec_execution::user_hash;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use self::ledger::{ExecutionKey, Ledger, Millis, Quota, Standing, UserKey, Verdict};
use crate::auth::UserLimits;
use crate::settings::Settings;

/// What an execution may take beyond the queue and its program, until its end is known here.
const SLACK: Duration = Duration::from_secs(30);

/// Why an execution may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rate is used up.
    #[error("Too many executions: {} a minute are allowed. Try again in {} s.", .0.limit, seconds(.0.reset_ms))]
    TooMany(Standing),
    /// So many are under way already.
    #[error("Too many executions at once: {0} are allowed. Try again when one of them has ended.")]
    TooManyAtOnce(u32),
    /// What other replicas admit is not known at the moment.
    #[error("executions can't be counted at the moment")]
    NotCounting,
}

/// Whole seconds, rounded up: whoever waits for so long does not come too early.
#[must_use]
pub fn seconds(ms: i64) -> u32 {
    let seconds = u32::try_from(ms.max(0).unsigned_abs().div_ceil(1000));
    seconds.unwrap_or(u32::MAX).max(1)
}

/// Counts executions and lets them begin.
#[derive(Debug)]
pub struct Limits {
    defaults: Quota,
    ledger: Mutex<Ledger>,
    /// Told whenever somebody who waits for a confirmation may go on.
    changed: Notify,
    /// Whether somebody has a quota, so that it is worth watching.
    wanted_tx: watch::Sender<bool>,
    /// Whether all that was begun before is known.
    complete_tx: watch::Sender<bool>,
    patience: Duration,
    began: Instant,
    hasher: RandomState,
}

impl Limits {
    /// Counts what is begun here, and nobody else begins anything.
    #[must_use]
    pub fn alone(settings: &Settings) -> Arc<Self> {
        Self::new(settings, false)
    }

    /// Counts what is begun here and what a watch tells of: see [`Limits::seen`]. Until it has told what there
    /// is, nobody is admitted.
    #[must_use]
    pub fn shared(settings: &Settings) -> Arc<Self> {
        Self::new(settings, true)
    }

    fn new(settings: &Settings, is_shared: bool) -> Arc<Self> {
        let defaults = settings.quota();
        let program = Duration::from_secs(u64::from(bounds::TIMEOUT_SECONDS.end().unsigned_abs()));
        let longest = settings.queue_timeout() + program + SLACK;
        Arc::new(Self {
            defaults,
            ledger: Mutex::new(Ledger::new(is_shared, millis(longest))),
            changed: Notify::new(),
            wanted_tx: watch::Sender::new(defaults != Quota::default()),
            complete_tx: watch::Sender::new(!is_shared),
            patience: settings.kube_timeout(),
            began: Instant::now(),
            hasher: RandomState::new(),
        })
    }

    /// Lets the execution `id` of `user` begin.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn admit(
        self: &Arc<Self>,
        user: &str,
        id: &str,
        own: UserLimits,
    ) -> Result<Admission, Refusal> {
        let quota = Quota {
            per_minute: own.per_minute.unwrap_or(self.defaults.per_minute),
            concurrent: own.concurrent.unwrap_or(self.defaults.concurrent),
        };
        if quota == Quota::default() {
            return Ok(Admission::uncounted());
        }
        self.wanted_tx
            .send_if_modified(|wanted| !std::mem::replace(wanted, true));
        let deadline = Instant::now() + self.patience;
        let mut complete = self.complete_tx.subscribe();
        match timeout_at(deadline, complete.wait_for(|&complete| complete)).await {
            Ok(Ok(_)) => {}
            // The sender is ours.
            Ok(Err(_)) | Err(_) => return Err(Refusal::NotCounting),
        }
        let (user, key) = (user_key(user), self.key(id));
        loop {
            // Before the ledger is asked, so that no change in between is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let verdict = self.ledger().admit(user, key, quota, self.now());
            match verdict {
                Verdict::Admitted { standing, is_new } => {
                    return Ok(Admission {
                        standing,
                        counted: is_new.then(|| Counted {
                            limits: Arc::clone(self),
                            user,
                            key,
                            is_settled: false,
                        }),
                    });
                }
                Verdict::TooMany(standing) => return Err(Refusal::TooMany(standing)),
                Verdict::TooManyAtOnce { limit } => return Err(Refusal::TooManyAtOnce(limit)),
                Verdict::Wait => {}
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(Refusal::NotCounting);
            }
        }
    }

    /// The execution `id` of `user` is over.
    pub fn ended(&self, user: &str, id: &str) {
        self.ledger().ended(user_key(user), self.key(id));
    }

    /// A watch shows an execution, which began `age` ago. Users are named as in the label of an execution.
    pub fn seen(&self, user_hash: &str, id: &str, age: Duration, has_ended: bool) {
        // What does not look like a hash is not from us, and nobody here is counted by it.
        let Some(user) = parse_hash(user_hash) else { return };
        let (now, key) = (self.now(), self.key(id));
        let at = now.saturating_sub(millis(age));
        self.ledger().seen(user, key, at, has_ended, now);
        self.changed.notify_waiters();
    }

    /// A watch shows that an execution is over, or gone.
    pub fn seen_ended(&self, user_hash: &str, id: &str) {
        if let Some(user) = parse_hash(user_hash) {
            self.ledger().ended(user, self.key(id));
        }
    }

    /// A watch has told all that there is, and goes on telling what comes.
    pub fn complete(&self) {
        self.complete_tx.send_replace(true);
    }

    /// Waits until somebody has a quota.
    pub async fn wanted(&self) {
        // The sender is ours.
        let _ = self.wanted_tx.subscribe().wait_for(|&wanted| wanted).await;
    }

    /// Whether somebody has a quota.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.wanted_tx.borrow()
    }

    fn key(&self, id: &str) -> ExecutionKey {
        // Seeded at random, so that nobody can choose names that meet.
        ExecutionKey(self.hasher.hash_one(id))
    }

    fn now(&self) -> Millis {
        millis(self.began.elapsed())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing in here can panic halfway through a change.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An execution that may begin.
#[derive(Debug)]
#[must_use = "what becomes of it has to be told"]
pub struct Admission {
    standing: Option<Standing>,
    counted: Option<Counted>,
}

/// Takes an execution for abandoned when nobody has told what became of it, which is what a client that hangs
/// up comes to.
#[derive(Debug)]
struct Counted {
    limits: Arc<Limits>,
    user: UserKey,
    key: ExecutionKey,
    is_settled: bool,
}

impl Admission {
    fn uncounted() -> Self {
        Self {
            standing: None,
            counted: None,
        }
    }

    /// It exists. How its user stands with the rate now; nothing where that is unbounded.
    pub fn accepted(mut self) -> Option<Standing> {
        if let Some(counted) = &mut self.counted {
            counted.is_settled = true;
        }
        self.standing
    }

    /// It will not exist, or existed before and was counted then.
    pub fn refused(mut self) {
        if let Some(counted) = &mut self.counted {
            counted.is_settled = true;
            counted.limits.ledger().refused(counted.user, counted.key);
            counted.limits.changed.notify_waiters();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.is_settled {
            self.limits.ledger().abandoned(self.user, self.key);
            self.limits.changed.notify_waiters();
        }
    }
}

fn user_key(user: &str) -> UserKey {
    // A hash of ours always parses.
    parse_hash(&user_hash(user)).unwrap_or(UserKey(0))
}

fn parse_hash(hash: &str) -> Option<UserKey> {
    u128::from_str_radix(hash, 16).ok().map(UserKey)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use clap::Parser;
    use futures::poll;

    use super::*;

    fn shared(flags: &[&str]) -> Arc<Limits> {
        let limits = Limits::shared(&Settings::parse_from([&["codeexec-api"], flags].concat()));
        limits.complete();
        limits
    }

    async fn admit(limits: &Arc<Limits>, id: &str) -> Result<Admission, Refusal> {
        limits.admit("alice", id, UserLimits::default()).await
    }

    #[tokio::test]
    async fn who_waits_goes_on_with_the_confirmation_a_refusal_or_a_client_that_hangs_up() {
        let limits = shared(&[]);
        for (number, settle) in [
            |_: &Limits, admission: Admission| admission.refused(),
            |_: &Limits, admission: Admission| drop(admission),
            |limits: &Limits, admission: Admission| {
                admission.accepted();
                limits.seen(&user_hash("alice"), "first-2", Duration::ZERO, false);
            },
        ]
        .into_iter()
        .enumerate()
        {
            let first = admit(&limits, &format!("first-{number}")).await.unwrap();
            let id = format!("second-{number}");
            let mut second = Box::pin(admit(&limits, &id));
            assert!(poll!(second.as_mut()).is_pending());
            settle(&limits, first);
            second.await.unwrap().refused();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_a_call_may_take() {
        let limits = shared(&["--kube-timeout-ms", "400"]);
        let _first = admit(&limits, "first").await.unwrap();
        let began = Instant::now();
        assert_eq!(admit(&limits, "second").await.err(), Some(Refusal::NotCounting));
        assert_eq!(began.elapsed(), Duration::from_millis(400));
    }

    #[tokio::test]
    async fn a_users_own_quota_holds_in_place_of_the_settings_and_0_lifts_it() {
        let limits = Limits::alone(&Settings::parse_from(["codeexec-api", "--rate-limit", "1"]));
        let free = UserLimits {
            per_minute: Some(0),
            concurrent: Some(0),
        };
        for id in ["a", "b", "c"] {
            let admission = limits.admit("bob", id, free).await.unwrap();
            assert_eq!(admission.accepted(), None);
        }
        admit(&limits, "d").await.unwrap().accepted();
        assert!(matches!(admit(&limits, "e").await, Err(Refusal::TooMany(_))));
    }
}
