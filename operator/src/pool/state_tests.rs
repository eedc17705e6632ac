use std::sync::Arc;
use std::time::Duration;

use codeexec_crds::{ExecutorPool, ExecutorPoolSpec};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn pool(change: impl FnOnce(&mut ExecutorPoolSpec)) -> Arc<Pools> {
    let mut spec = ExecutorPoolSpec {
        queue_limit: 2,
        ..ExecutorPoolSpec::default()
    };
    change(&mut spec);
    let pools = Arc::<Pools>::default();
    let object = Arc::new(ExecutorPool::new("p", spec));
    pools.lock().entry("p".to_owned()).or_default().object = Some(object);
    pools
}

fn enter(pools: &Arc<Pools>, user: &str, uid: &str) -> Result<Place, Refused> {
    pools.enter(&Wish {
        pool: "p",
        uid,
        user,
        timeout: Duration::from_secs(30),
        patience: PATIENCE,
        warm: true,
    })
}

fn has_turn(place: &mut Place) -> bool {
    matches!(place.try_turn(), Some(Turn::Cold))
}

#[test]
fn an_empty_pool_lets_executions_start_pods_of_their_own_a_bounded_number_at_once() {
    let pools = pool(|_| {});
    let mut first: Vec<Place> = (0..MOST_STARTING)
        .map(|at| enter(&pools, "u", &format!("e{at}")).expect("room"))
        .collect();
    assert!(first.iter_mut().all(has_turn));
    let mut next = enter(&pools, "u", "next").expect("room in the queue");
    assert!(!has_turn(&mut next));
    assert_eq!(next.position(), Some(0));
    first[0].has_started();
    assert!(has_turn(&mut next));
}

#[test]
fn beyond_max_concurrent_executions_wait_until_one_leaves() {
    let pools = pool(|spec| spec.max_concurrent = Some(1));
    let mut first = enter(&pools, "a", "a1").expect("room");
    assert!(has_turn(&mut first));
    first.has_started();
    let mut second = enter(&pools, "a", "a2").expect("room in the queue");
    let mut other = enter(&pools, "b", "b1").expect("room in the queue");
    assert!(!has_turn(&mut second) && !has_turn(&mut other));
    drop(first);
    assert!(has_turn(&mut second) && !has_turn(&mut other));
    drop(second);
    assert!(has_turn(&mut other));
}

#[test]
fn beyond_the_queue_s_limit_executions_are_refused() {
    let pools = pool(|spec| spec.max_concurrent = Some(1));
    let _holder = enter(&pools, "a", "a1").expect("room");
    let _waiting = [enter(&pools, "a", "a2"), enter(&pools, "b", "b1")];
    let refused = enter(&pools, "c", "c1").err();
    let pool = "p".to_owned();
    assert_eq!(refused, Some(Refused::QueueFull { pool, waiting: 2 }));
    // What somebody else may have begun with is never turned away.
    let inherited = pools.enter(&Wish {
        pool: "p",
        uid: "old",
        user: "c",
        timeout: Duration::ZERO,
        patience: PATIENCE,
        warm: false,
    });
    assert!(inherited.is_ok());
}

#[test]
fn an_execution_whose_turn_would_come_too_late_is_refused_at_once() {
    let pools = pool(|spec| {
        spec.max_concurrent = Some(1);
        spec.queue_limit = 100;
    });
    // Eight in half a minute: the second in line waits longer than the 5 s that it has.
    for at in 0..PACE_SAMPLES {
        drop(enter(&pools, "a", &format!("e{at}")));
    }
    let _holder = enter(&pools, "a", "holder").expect("room");
    let _first = enter(&pools, "a", "first").expect("its turn comes in time");
    let late = pools.enter(&Wish {
        pool: "p",
        uid: "late",
        user: "b",
        timeout: Duration::from_secs(1),
        patience: Duration::from_secs(5),
        warm: true,
    });
    assert!(matches!(late.err(), Some(Refused::TooSlow { waiting: 1, .. })));
}

#[test]
fn whoever_gives_up_leaves_the_queue() {
    let pools = pool(|spec| spec.max_concurrent = Some(1));
    let _holder = enter(&pools, "a", "a1").expect("room");
    let gives_up = enter(&pools, "b", "b1").expect("room in the queue");
    let waits = enter(&pools, "c", "c1").expect("room in the queue");
    assert_eq!(waits.position(), Some(1));
    drop(gives_up);
    assert_eq!(waits.position(), Some(0));
}

#[test]
fn an_execution_waits_for_the_pod_that_its_user_gets_back_and_for_no_other() {
    let pools = pool(|_| {});
    let coming_back = pools.comes_back("p", "a");
    let mut first = enter(&pools, "a", "a1").expect("room");
    let mut second = enter(&pools, "a", "a2").expect("room");
    let mut other = enter(&pools, "b", "b1").expect("room");
    assert!(!has_turn(&mut first), "a Pod is on its way to it");
    assert!(has_turn(&mut second), "one Pod is promised to one execution");
    assert!(has_turn(&mut other), "it is another user's");
    assert_eq!(first.position(), None);
    drop(coming_back);
    assert!(has_turn(&mut first), "the Pod will not come");
}

#[test]
fn whoever_waits_for_a_pod_on_its_way_counts_as_under_way() {
    let pools = pool(|spec| spec.max_concurrent = Some(1));
    let coming_back = pools.comes_back("p", "a");
    let promised = enter(&pools, "a", "a1").expect("room");
    let mut other = enter(&pools, "b", "b1").expect("room in the queue");
    assert!(!has_turn(&mut other));
    drop(promised);
    assert!(has_turn(&mut other));
    drop(coming_back);
}
