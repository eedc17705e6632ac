//! How many bytes may be written: a bucket that drains with each write and fills up again with time.

use std::time::Duration;

use jiff::Timestamp;

use super::shorten::Room;

/// What a result would cost in bytes, by how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    whole: u64,
    ends: u64,
    heads: u64,
}

impl Costs {
    /// As `cost` tells for each.
    pub fn of(cost: impl Fn(Room) -> u64) -> Self {
        Self {
            whole: cost(Room::Whole),
            ends: cost(Room::Ends),
            heads: cost(Room::Heads),
        }
    }
}

/// A bucket of bytes.
///
/// Within any time of `window` at most twice its capacity goes into results that are longer than their heads: what was
/// in it, and what flowed in meanwhile.
#[derive(Clone, Debug)]
pub struct Budget {
    capacity: i64,
    window: Duration,
    left: i64,
    at: Timestamp,
}

impl Budget {
    /// A full bucket of `capacity` bytes, which an empty one has again after `window`.
    #[must_use]
    pub fn new(capacity: u64, window: Duration, now: Timestamp) -> Self {
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        Self {
            capacity,
            window,
            left: capacity,
            at: now,
        }
    }

    /// Decides how much of a result is kept, and spends what that costs.
    ///
    /// The last quarter is for the ends of outputs. What is left of a result without them is written in any case.
    pub fn take(&mut self, now: Timestamp, costs: Costs) -> Room {
        let left = self.left(now);
        let after = |cost: u64| left.saturating_sub(signed(cost));
        let (room, cost) = if after(costs.whole) >= self.reserve() {
            (Room::Whole, costs.whole)
        } else if after(costs.ends) >= 0 {
            (Room::Ends, costs.ends)
        } else {
            (Room::Heads, costs.heads)
        };
        self.spend(now, cost);
        room
    }

    /// Spends bytes, whether they are there or not. The debt is bounded, so that it is over after a `window`.
    pub fn spend(&mut self, now: Timestamp, bytes: u64) {
        let left = self.left(now).saturating_sub(signed(bytes));
        self.left = left.max(-self.capacity);
    }

    /// What is left now.
    pub fn left(&mut self, now: Timestamp) -> i64 {
        // A clock that was set back fills nothing, until it has caught up.
        let elapsed = now.duration_since(self.at).as_millis().max(0);
        let window = i128::try_from(self.window.as_millis())
            .unwrap_or(i128::MAX)
            .max(1);
        let inflow = i64::try_from(i128::from(self.capacity) * elapsed / window).unwrap_or(i64::MAX);
        // Time that brought less than a byte is not lost.
        if inflow > 0 {
            self.left = self.left.saturating_add(inflow).min(self.capacity);
            self.at = now;
        }
        self.left
    }

    /// Whether whole outputs could be written now.
    pub fn is_ample(&mut self, now: Timestamp) -> bool {
        self.left(now) > self.reserve()
    }

    /// Spends what others have spent at the given times.
    pub fn inherit(&mut self, now: Timestamp, mut spent: Vec<(Timestamp, u64)>) {
        spent.sort_unstable();
        let Some((first, _)) = spent.first() else { return };
        let mut theirs = Self::new(self.capacity.unsigned_abs(), self.window, *first);
        for (at, bytes) in spent {
            theirs.spend(at, bytes);
        }
        let missing = theirs.capacity.saturating_sub(theirs.left(now));
        self.spend(now, missing.unsigned_abs());
    }

    fn reserve(&self) -> i64 {
        self.capacity / 4
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).expect("a time")
    }

    fn costs(whole: u64) -> Costs {
        Costs {
            whole,
            ends: whole.min(100),
            heads: whole.min(10),
        }
    }

    #[test]
    fn outputs_come_whole_then_as_ends_then_as_heads() {
        let mut budget = Budget::new(1000, WINDOW, at(0));
        let taken: Vec<Room> = (0..6).map(|_| budget.take(at(0), costs(250))).collect();
        use Room::{Ends, Heads, Whole};
        assert_eq!(taken, [Whole, Whole, Whole, Ends, Ends, Heads]);
    }

    #[test]
    fn what_is_spent_flows_back_within_the_window() {
        let mut budget = Budget::new(1000, WINDOW, at(0));
        budget.spend(at(0), 1000);
        assert_eq!(budget.left(at(300_000)), 500);
        assert_eq!(budget.left(at(600_000)), 1000);
        assert_eq!(budget.left(at(6_000_000)), 1000);
    }

    #[test]
    fn a_debt_is_over_after_two_windows_however_large() {
        let mut budget = Budget::new(1000, WINDOW, at(0));
        budget.spend(at(0), u64::MAX);
        assert_eq!(budget.left(at(0)), -1000);
        assert_eq!(budget.left(at(1_200_000)), 1000);
    }

    #[test]
    fn looking_often_loses_nothing() {
        let mut budget = Budget::new(1000, WINDOW, at(0));
        budget.spend(at(0), 1000);
        for millis in 0..=600_000 {
            budget.left(at(millis));
        }
        assert_eq!(budget.left(at(600_000)), 1000);
    }

    #[test]
    fn a_clock_that_is_set_back_fills_nothing() {
        let mut budget = Budget::new(1000, WINDOW, at(600_000));
        budget.spend(at(600_000), 1000);
        assert_eq!(budget.left(at(0)), 0);
        assert_eq!(budget.left(at(600_000)), 0);
    }

    #[test]
    fn a_new_leader_owes_what_the_one_before_has_spent() {
        let mut budget = Budget::new(1000, WINDOW, at(600_000));
        // The first has flowed back, of the second the half.
        budget.inherit(at(600_000), vec![(at(300_000), 800), (at(-600_000), 1000)]);
        assert_eq!(budget.left(at(600_000)), 700);
        let mut unburdened = Budget::new(1000, WINDOW, at(0));
        unburdened.inherit(at(0), Vec::new());
        assert_eq!(unburdened.left(at(0)), 1000);
    }

    proptest! {
        /// Results of any size at any times: no window holds more than twice the capacity of what could be cut.
        #[test]
        fn no_window_holds_more_than_twice_the_budget(
            results in proptest::collection::vec((0_i64..60_000, 0_u64..3000), 1..200),
        ) {
            let mut budget = Budget::new(10_000, WINDOW, at(0));
            let mut now = 0;
            let mut written = Vec::new();
            for (pause, size) in results {
                now += pause;
                let costs = costs(size);
                let bytes = match budget.take(at(now), costs) {
                    Room::Whole => costs.whole,
                    Room::Ends => costs.ends,
                    Room::Heads => 0,
                };
                written.push((at(now), bytes));
            }
            let window = SignedDuration::try_from(WINDOW).expect("short");
            for (end, _) in &written {
                let within = |moment: &Timestamp| moment <= end && end.duration_since(*moment) < window;
                let bytes: u64 = written.iter().filter(|(at, _)| within(at)).map(|(_, bytes)| bytes).sum();
                prop_assert!(bytes <= 20_000, "{bytes} bytes within a window");
            }
        }
    }
}
