//! Pods that have served somebody and may serve the same user again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use codeexec_crds::{ReusePolicy, ReuseSpec};

use super::idle::WarmPod;

/// `reuse.idleSeconds` and `reuse.maxExecutions` of a pool that sets none.
const IDLE_SECONDS: i64 = 60;
const MAX_EXECUTIONS: i32 = 50;

/// Most output and files of all executions of one Pod, in bytes: its log is what a new leader reads, and the kubelet begins a
/// new one at 10 MiB.
const MOST_PRINTED: u64 = 4 * 1024 * 1024;

/// How long a Pod beyond the pool's number waits for its user, and how many times that number there are at most.
const SURPLUS_IDLE: Duration = Duration::from_secs(5);
const MOST_TIMES: usize = 2;

/// How far a pool's Pods are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    idle: Duration,
    most: u32,
}

impl Reuse {
    /// What a pool says; nothing where it uses no Pod again.
    #[must_use]
    pub fn of(spec: Option<&ReuseSpec>) -> Option<Self> {
        let spec = spec.filter(|spec| spec.policy == ReusePolicy::SameUser)?;
        Some(Self {
            idle: Duration::from_secs(spec.idle_seconds.unwrap_or(IDLE_SECONDS).unsigned_abs()),
            most: spec.max_executions.unwrap_or(MAX_EXECUTIONS).unsigned_abs(),
        })
    }

    /// Whether a Pod may be kept that has served so many before this execution, and printed so much.
    #[must_use]
    pub fn keeps(self, served: u32, printed: u64) -> bool {
        served + 1 < self.most && printed < MOST_PRINTED
    }
}

/// Used Pods by user. A Pod gets in by its user's name and out by the same one, and there is no other way out but
/// to be deleted.
#[derive(Default)]
pub struct UsedPods(HashMap<String, Vec<Kept>>);

struct Kept {
    warm: WarmPod,
    since: Instant,
}

impl UsedPods {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Keeps a Pod for its user.
    pub fn keep(&mut self, user: &str, warm: WarmPod) {
        let kept = Kept {
            warm,
            since: Instant::now(),
        };
        self.0.entry(user.to_owned()).or_default().push(kept);
    }

    /// The Pod that this user used last, if it lives long enough.
    pub fn take(&mut self, user: &str, life: Duration) -> Option<WarmPod> {
        let own = self.0.get_mut(user)?;
        let at = own
            .iter()
            .rposition(|kept| kept.warm.life_left() > life && kept.warm.is_there())?;
        let kept = own.remove(at);
        if own.is_empty() {
            self.0.remove(user);
        }
        Some(kept.warm)
    }

    /// Takes those out that waited for too long, and the oldest of more than `most` that nobody has needed for a
    /// while: at a busy moment some are needed again as soon as they are back, and each that goes costs a start.
    pub fn expired(&mut self, reuse: Option<Reuse>, most: usize) -> Vec<WarmPod> {
        let idle = reuse.map_or(Duration::ZERO, |reuse| reuse.idle);
        let mut since: Vec<Instant> = self.0.values().flatten().map(|kept| kept.since).collect();
        since.sort_unstable();
        let waited: Vec<Duration> = since.iter().map(Instant::elapsed).collect();
        let surplus = surplus(&waited, most);
        let too_old = surplus.checked_sub(1).and_then(|last| since.get(last).copied());
        let mut out = Vec::new();
        for own in self.0.values_mut() {
            let goes = |kept: &mut Kept| {
                kept.since.elapsed() >= idle
                    || too_old.is_some_and(|old| kept.since <= old)
                    || !kept.warm.is_there()
            };
            out.extend(own.extract_if(.., goes).map(|kept| kept.warm));
        }
        self.0.retain(|_, own| !own.is_empty());
        out
    }

    /// Takes in what the watch says of one of them. Whether it is one.
    pub fn on_pod(&mut self, view: &crate::observe::PodView) -> bool {
        let kept = self
            .0
            .values_mut()
            .flatten()
            .find(|kept| kept.warm.view.name == view.name);
        kept.map(|kept| kept.warm.view = view.clone()).is_some()
    }

    /// Whether this is one.
    pub fn has(&self, name: &str) -> bool {
        self.0.values().flatten().any(|kept| kept.warm.view.name == name)
    }

    /// Forgets one that is gone.
    pub fn forget(&mut self, name: &str) {
        for own in self.0.values_mut() {
            own.retain(|kept| kept.warm.view.name != name);
        }
        self.0.retain(|_, own| !own.is_empty());
    }
}

/// How many of those that wait are too many, by how long they have waited, the longest first.
fn surplus(waited: &[Duration], most: usize) -> usize {
    let beyond = waited.iter().take(waited.len().saturating_sub(most));
    let unneeded = beyond.take_while(|waited| **waited >= SURPLUS_IDLE).count();
    unneeded.max(waited.len().saturating_sub(most * MOST_TIMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_beyond_the_pool_s_number_go_when_nobody_has_needed_them_for_a_while() {
        let seconds = |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(surplus(&[], 1), 0);
        assert_eq!(surplus(&seconds(&[30, 20]), 2), 0);
        assert_eq!(surplus(&seconds(&[30, 20, 1]), 2), 1);
        assert_eq!(surplus(&seconds(&[30, 20, 1]), 1), 2);
        assert_eq!(surplus(&seconds(&[4, 3, 2, 1]), 2), 0);
        assert_eq!(surplus(&seconds(&[4, 3, 2, 1, 0]), 2), 1);
    }

    #[test]
    fn a_pod_is_kept_only_by_a_pool_that_says_so_and_up_to_its_bounds() {
        assert_eq!(Reuse::of(None), None);
        assert_eq!(Reuse::of(Some(&ReuseSpec::default())), None);
        let spec = ReuseSpec {
            policy: ReusePolicy::SameUser,
            max_executions: Some(3),
            ..ReuseSpec::default()
        };
        let reuse = Reuse::of(Some(&spec)).expect("same user");
        assert_eq!(
            [0, 1, 2].map(|served| reuse.keeps(served, 0)),
            [true, true, false]
        );
        assert!(!reuse.keeps(0, MOST_PRINTED));
    }
}
