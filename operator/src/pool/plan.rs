//! What a pool needs next: a pure function of what is seen of it.

use std::time::Duration;

/// Pods of one pool that may be starting at once, for whatever purpose: a start takes most of a small node's
/// processor, and a hundred at once would end none of them sooner.
pub const MOST_STARTING: usize = 8;

/// How many of them may be idle Pods that a pool makes ahead: whoever waits for a Pod of his own comes first.
const MOST_REFILLING: usize = 4;

/// How long no execution must have been in a hurry before idle Pods are made: beside a start, an execution takes
/// several times as long.
pub const QUIET: Duration = Duration::from_millis(50);

/// How often a quiet moment is looked for.
const LOOK_FOR_QUIET: Duration = Duration::from_millis(100);

/// How long missing Pods wait for such a moment at most.
pub const REFILL_PATIENCE: Duration = Duration::from_secs(1);

/// An idle Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Its name.
    pub name: String,
    /// Whether it would take a request at once.
    pub ready: bool,
    /// Whether it is as the pool and the settings say today, and has life enough left.
    pub current: bool,
    /// Whether it can't get ready any more.
    pub ended: bool,
}

/// What is seen of a pool.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many idle Pods it is to have.
    pub wanted: usize,
    /// Those that it has, the oldest first.
    pub idle: Vec<Idle>,
    /// Pods that are starting for executions.
    pub cold_starts: usize,
    /// For how long no execution has been in a hurry; nothing while one is.
    pub quiet_for: Option<Duration>,
    /// For how long Pods have been missing.
    pub short_for: Duration,
    /// How long to wait because the last Pods did not come up.
    pub pause: Duration,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// So many idle Pods are to be made.
    pub create: usize,
    /// These are to go.
    pub delete: Vec<String>,
    /// When to look again if nothing happens until then.
    pub again: Option<Duration>,
}

/// What to do about what is seen.
///
/// Pods of an old spec, or too old themselves, serve until others are ready in their place: the new ones are made
/// one (or a quarter of the pool) at a time beyond the wanted number, so that no moment has fewer ready Pods than
/// before, however badly the new ones do.
pub fn plan(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    let mut kept: Vec<&Idle> = Vec::new();
    for idle in &seen.idle {
        if idle.ended || (!idle.current && !idle.ready) {
            plan.delete.push(idle.name.clone());
        } else {
            kept.push(idle);
        }
    }
    let surplus = kept
        .iter()
        .filter(|idle| idle.ready)
        .count()
        .saturating_sub(seen.wanted);
    // The oldest first; of those that are ready, the outdated ones before the others.
    let outdated = kept.iter().filter(|idle| !idle.current);
    let current = kept.iter().filter(|idle| idle.current && idle.ready);
    let gone: Vec<String> = outdated
        .chain(current)
        .take(surplus)
        .map(|idle| idle.name.clone())
        .collect();
    kept.retain(|idle| !gone.contains(&idle.name));
    plan.delete.extend(gone);
    // A pool that became smaller has no use for those that are still starting.
    while kept.len() > seen.wanted
        && let Some(at) = kept.iter().rposition(|idle| !idle.ready)
        && kept.iter().all(|idle| idle.current)
    {
        plan.delete.push(kept.remove(at).name.clone());
    }

    let outdated = kept.iter().filter(|idle| !idle.current).count();
    let beyond = outdated.min((seen.wanted / 4).max(1));
    let missing = (seen.wanted + beyond).saturating_sub(kept.len());
    if missing == 0 {
        return plan;
    }
    let starting = kept.iter().filter(|idle| !idle.ready).count();
    let room = MOST_REFILLING
        .saturating_sub(starting)
        .min(MOST_STARTING.saturating_sub(starting + seen.cold_starts));
    let until_quiet = match seen.quiet_for {
        Some(quiet) => QUIET.saturating_sub(quiet),
        // One may end, or be no longer in a hurry, without a word.
        None => LOOK_FOR_QUIET,
    };
    let wait = until_quiet
        .min(REFILL_PATIENCE.saturating_sub(seen.short_for))
        .max(seen.pause);
    if wait.is_zero() {
        plan.create = missing.min(room);
    } else {
        plan.again = Some(wait);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(name: &str, change: impl FnOnce(&mut Idle)) -> Idle {
        let mut idle = Idle {
            name: name.to_owned(),
            ready: true,
            current: true,
            ended: false,
        };
        change(&mut idle);
        idle
    }

    fn ready(name: &str) -> Idle {
        idle(name, |_| {})
    }

    fn outdated(name: &str) -> Idle {
        idle(name, |idle| idle.current = false)
    }

    fn starting(name: &str) -> Idle {
        idle(name, |idle| idle.ready = false)
    }

    fn quiet(wanted: usize, idle: Vec<Idle>) -> Seen {
        Seen {
            wanted,
            idle,
            quiet_for: Some(QUIET),
            ..Seen::default()
        }
    }

    #[test]
    fn missing_pods_are_made_a_few_at_a_time() {
        assert_eq!(plan(&quiet(2, vec![])).create, 2);
        assert_eq!(plan(&quiet(20, vec![])).create, 4);
        assert_eq!(
            plan(&quiet(20, vec![starting("a"), starting("b"), ready("c")])).create,
            2
        );
        assert_eq!(plan(&quiet(1, vec![ready("a")])), Plan::default());
    }

    #[test]
    fn pods_are_not_made_beside_an_execution_but_for_a_bounded_time() {
        let busy = Seen {
            quiet_for: None,
            ..quiet(2, vec![])
        };
        assert_eq!(plan(&busy).create, 0);
        assert_eq!(plan(&busy).again, Some(LOOK_FOR_QUIET));
        let long = Seen {
            short_for: REFILL_PATIENCE,
            ..busy
        };
        assert_eq!(plan(&long).create, 2);
    }

    #[test]
    fn starts_for_executions_come_first() {
        let busy = Seen {
            cold_starts: MOST_STARTING - 1,
            ..quiet(5, vec![])
        };
        assert_eq!(plan(&busy).create, 1);
        let full = Seen {
            cold_starts: MOST_STARTING,
            ..quiet(5, vec![])
        };
        assert_eq!(plan(&full).create, 0);
    }

    #[test]
    fn after_pods_that_did_not_come_up_there_is_a_pause() {
        let paused = Seen {
            pause: Duration::from_secs(8),
            ..quiet(2, vec![])
        };
        assert_eq!(
            plan(&paused),
            Plan {
                again: Some(Duration::from_secs(8)),
                ..Plan::default()
            }
        );
    }

    #[test]
    fn what_has_ended_goes_and_is_replaced() {
        let ended = idle("a", |idle| idle.ended = true);
        let plan = plan(&quiet(1, vec![ended]));
        assert_eq!((plan.create, plan.delete), (1, vec!["a".to_owned()]));
    }

    #[test]
    fn a_smaller_pool_lets_its_oldest_go() {
        assert_eq!(
            plan(&quiet(1, vec![ready("a"), ready("b"), ready("c")])).delete,
            ["a", "b"]
        );
        assert_eq!(plan(&quiet(1, vec![ready("a"), starting("b")])).delete, ["b"]);
        assert_eq!(plan(&quiet(0, vec![starting("a")])).delete, ["a"]);
    }

    #[test]
    fn outdated_pods_go_only_when_others_are_ready_in_their_place() {
        let old = vec![outdated("a"), outdated("b"), outdated("c"), outdated("d")];
        let first = plan(&quiet(4, old.clone()));
        assert_eq!((first.create, first.delete.len()), (1, 0));
        let coming = plan(&quiet(4, [old.clone(), vec![starting("e")]].concat()));
        assert_eq!((coming.create, coming.delete.len()), (0, 0));
        let came = plan(&quiet(4, [old, vec![ready("e")]].concat()));
        assert_eq!((came.create, came.delete), (1, vec!["a".to_owned()]));
    }

    #[test]
    fn outdated_pods_that_are_not_ready_go_at_once() {
        let late = idle("a", |idle| {
            idle.ready = false;
            idle.current = false;
        });
        let plan = plan(&quiet(1, vec![late]));
        assert_eq!((plan.create, plan.delete), (1, vec!["a".to_owned()]));
    }
}
