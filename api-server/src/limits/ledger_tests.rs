use proptest::prelude::*;

use super::*;

const ALICE: UserKey = UserKey(1);
const BOB: UserKey = UserKey(2);
const LONGEST_MS: i64 = 120_000;

fn ledger(is_shared: bool) -> Ledger {
    Ledger::new(is_shared, LONGEST_MS)
}

fn rate(per_minute: u32) -> Quota {
    Quota {
        per_minute,
        concurrent: 0,
    }
}

fn key(number: u64) -> ExecutionKey {
    ExecutionKey(number)
}

fn is_admitted(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Admitted { .. })
}

#[test]
fn the_first_after_a_minute_is_admitted_and_the_last_before_it_is_not() {
    let mut ledger = ledger(false);
    for number in 0..3 {
        assert!(is_admitted(ledger.admit(
            ALICE,
            key(number),
            rate(3),
            100 * number as i64
        )));
    }
    let full = Verdict::TooMany(Standing {
        limit: 3,
        remaining: 0,
        reset_ms: 1,
    });
    assert_eq!(ledger.admit(ALICE, key(3), rate(3), WINDOW_MS - 1), full);
    assert!(is_admitted(ledger.admit(BOB, key(4), rate(3), WINDOW_MS - 1)));
    assert!(is_admitted(ledger.admit(ALICE, key(5), rate(3), WINDOW_MS)));
    let next = ledger.admit(ALICE, key(6), rate(3), WINDOW_MS);
    assert!(matches!(next, Verdict::TooMany(standing) if standing.reset_ms == 100));
}

#[test]
fn a_standing_tells_what_is_left_and_when_there_is_more() {
    let mut ledger = ledger(false);
    let mut standing = |number, now| match ledger.admit(ALICE, key(number), rate(3), now) {
        Verdict::Admitted {
            standing: Some(standing),
            ..
        } => (standing.limit, standing.remaining, standing.reset_ms),
        other => panic!("{other:?}"),
    };
    assert_eq!(standing(0, 0), (3, 2, WINDOW_MS));
    assert_eq!(standing(1, 1000), (3, 1, WINDOW_MS - 1000));
    assert_eq!(standing(1, 2000), (3, 1, WINDOW_MS - 2000));
}

#[test]
fn a_retry_is_counted_once() {
    let mut ledger = ledger(false);
    for now in 0..10 {
        let verdict = ledger.admit(ALICE, key(7), rate(1), now);
        assert!(matches!(verdict, Verdict::Admitted { is_new, .. } if is_new == (now == 0)));
    }
}

#[test]
fn what_is_refused_is_taken_back_unless_the_watch_has_shown_it() {
    let mut ledger = ledger(true);
    assert!(is_admitted(ledger.admit(ALICE, key(1), rate(1), 0)));
    ledger.refused(ALICE, key(1));
    assert!(is_admitted(ledger.admit(ALICE, key(2), rate(1), 1)));
    ledger.seen(ALICE, key(2), 1, false, 2);
    ledger.refused(ALICE, key(2));
    assert!(matches!(
        ledger.admit(ALICE, key(3), rate(1), 3),
        Verdict::TooMany(_)
    ));
}

#[test]
fn an_end_frees_a_place_but_takes_nothing_off_the_rate() {
    let quota = Quota {
        per_minute: 2,
        concurrent: 1,
    };
    let mut ledger = ledger(false);
    assert!(is_admitted(ledger.admit(ALICE, key(1), quota, 0)));
    assert_eq!(
        ledger.admit(ALICE, key(2), quota, 1),
        Verdict::TooManyAtOnce { limit: 1 }
    );
    ledger.ended(ALICE, key(1));
    assert!(is_admitted(ledger.admit(ALICE, key(2), quota, 2)));
    ledger.ended(ALICE, key(2));
    assert!(matches!(
        ledger.admit(ALICE, key(3), quota, 3),
        Verdict::TooMany(_)
    ));
}

#[test]
fn one_that_nobody_told_the_end_of_has_ended_after_the_longest_time() {
    let quota = Quota {
        per_minute: 0,
        concurrent: 1,
    };
    let mut ledger = ledger(false);
    assert!(is_admitted(ledger.admit(ALICE, key(1), quota, 0)));
    let before = ledger.admit(ALICE, key(2), quota, LONGEST_MS - 1);
    assert_eq!(before, Verdict::TooManyAtOnce { limit: 1 });
    assert!(is_admitted(ledger.admit(ALICE, key(2), quota, LONGEST_MS)));
}

#[test]
fn an_end_that_is_known_before_the_watch_shows_the_beginning_stands() {
    let quota = Quota {
        per_minute: 0,
        concurrent: 1,
    };
    let mut ledger = ledger(true);
    assert!(is_admitted(ledger.admit(ALICE, key(1), quota, 0)));
    ledger.ended(ALICE, key(1));
    ledger.seen(ALICE, key(1), 0, false, 1);
    assert!(is_admitted(ledger.admit(ALICE, key(2), quota, 2)));
}

#[test]
fn the_next_one_waits_for_the_confirmation_of_the_one_before() {
    let mut ledger = ledger(true);
    assert!(is_admitted(ledger.admit(ALICE, key(1), rate(10), 0)));
    assert_eq!(ledger.admit(ALICE, key(2), rate(10), 1), Verdict::Wait);
    assert!(is_admitted(ledger.admit(BOB, key(3), rate(10), 1)));
    // Its end alone does not tell what others have begun meanwhile.
    ledger.ended(ALICE, key(1));
    assert_eq!(ledger.admit(ALICE, key(2), rate(10), 2), Verdict::Wait);
    ledger.seen(ALICE, key(1), 0, false, 3);
    assert!(is_admitted(ledger.admit(ALICE, key(2), rate(10), 3)));
    // One whose client has gone is waited for by nobody, and counts.
    ledger.abandoned(ALICE, key(2));
    assert!(is_admitted(ledger.admit(ALICE, key(4), rate(3), 4)));
    ledger.seen(ALICE, key(4), 4, false, 5);
    assert!(matches!(
        ledger.admit(ALICE, key(5), rate(3), 6),
        Verdict::TooMany(_)
    ));
}

#[test]
fn of_a_large_quota_a_share_may_be_under_way() {
    let mut ledger = ledger(true);
    let admitted = (0..100)
        .filter(|&number| is_admitted(ledger.admit(ALICE, key(number), rate(80), 0)))
        .count();
    assert_eq!(admitted, 10);
}

#[test]
fn records_of_long_ago_are_not_kept_and_users_are_forgotten() {
    let mut ledger = ledger(true);
    for number in 0..20_000 {
        ledger.seen(UserKey(u128::from(number)), key(number), 0, true, WINDOW_MS);
    }
    assert!(ledger.users.is_empty());
    for number in 0..1000 {
        ledger.seen(
            UserKey(u128::from(number)),
            key(number),
            WINDOW_MS,
            true,
            WINDOW_MS,
        );
    }
    assert_eq!(ledger.users.len(), 1000);
    ledger.seen(ALICE, key(1), 3 * WINDOW_MS, true, 3 * WINDOW_MS);
    assert_eq!(ledger.users.len(), 1);
}

#[test]
fn somebody_who_creates_without_bound_takes_bounded_memory() {
    let mut ledger = ledger(true);
    for number in 0..50_000 {
        ledger.seen(ALICE, key(number), 0, false, 0);
    }
    assert_eq!(ledger.users[&ALICE].len(), MAX_PER_USER);
}

proptest! {
    #[test]
    fn in_no_minute_more_than_the_quota_begin_and_who_waits_as_told_is_admitted(
        pauses in prop::collection::vec(0_i64..20_000, 1..200),
        limit in 1_u32..12,
    ) {
        let (mut ledger, mut now) = (ledger(false), 0);
        let mut begun: Vec<Millis> = vec![];
        for (number, pause) in pauses.into_iter().enumerate() {
            now += pause;
            match ledger.admit(ALICE, key(number as u64), rate(limit), now) {
                Verdict::Admitted { standing, is_new } => {
                    begun.push(now);
                    let recent = begun.iter().filter(|&&at| at > now - WINDOW_MS).count();
                    prop_assert!(is_new && recent <= limit as usize);
                    prop_assert_eq!(standing.map(|standing| standing.remaining as usize), Some(limit as usize - recent));
                }
                Verdict::TooMany(standing) => {
                    let recent = begun.iter().filter(|&&at| at > now - WINDOW_MS).count();
                    prop_assert_eq!(recent, limit as usize);
                    // Not a millisecond sooner, and not one later.
                    let frees = |at: Millis| begun.iter().filter(|&&begun| begun > at - WINDOW_MS).count() < recent;
                    prop_assert!(frees(now + standing.reset_ms) && !frees(now + standing.reset_ms - 1));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    /// Replicas whose watches lag as they like, and a client that asks them in any order.
    #[test]
    fn replicas_together_admit_one_each_beyond_the_quota_at_most(
        steps in prop::collection::vec((0_usize..4, 0_usize..3, 0_i64..400), 1..400),
        limit in 1_u32..12,
    ) {
        let mut replicas: Vec<Ledger> = (0..4).map(|_| ledger(true)).collect();
        // What was created, in its order, and up to where each replica has seen it.
        let (mut log, mut seen, mut now) = (Vec::<(ExecutionKey, Millis)>::new(), [0_usize; 4], 0);
        for (number, (at, events, pause)) in steps.into_iter().enumerate() {
            now += pause;
            for _ in 0..events {
                if let Some(&(key, at_time)) = log.get(seen[at]) {
                    replicas[at].seen(ALICE, key, at_time, false, now);
                    seen[at] += 1;
                }
            }
            if is_admitted(replicas[at].admit(ALICE, key(number as u64), rate(limit), now)) {
                log.push((key(number as u64), now));
            }
            let recent = log.iter().filter(|&&(_, begun)| begun > now - WINDOW_MS).count();
            prop_assert!(recent < limit as usize + replicas.len(), "{recent} of {limit}");
        }
    }
}
