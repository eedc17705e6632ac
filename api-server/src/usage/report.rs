//! Adds up what finished records tell. No I/O.

use std::collections::BTreeMap;

use codeexec_crds::Phase;
use jiff::Timestamp;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;

use super::month::month;
use super::period::Period;

/// One execution that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Whose it was.
    pub user: String,
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub phase: Phase,
    /// What it is charged for.
    pub vcpu_seconds: f64,
    /// And what that costs.
    pub cost: f64,
}

/// How many executions ended in which way, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "UsageSums")]
pub struct Sums {
    /// All of them.
    pub executions: u64,
    /// Those that exited with 0.
    pub succeeded: u64,
    /// Those that failed, or could not be run.
    pub failed: u64,
    /// Those that reached their timeout.
    pub timed_out: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// CPU that their programs were given times the time they ran, in seconds.
    pub vcpu_seconds: f64,
    /// That times its price.
    pub cost: f64,
}

impl Sums {
    fn add(&mut self, ended: &Ended) {
        self.executions += 1;
        match ended.phase {
            Phase::Succeeded => self.succeeded += 1,
            Phase::TimedOut => self.timed_out += 1,
            Phase::Cancelled => self.cancelled += 1,
            Phase::Failed | Phase::Queued | Phase::Running => self.failed += 1,
        }
        self.vcpu_seconds += ended.vcpu_seconds;
        self.cost += ended.cost;
    }
}

/// The sums of one user.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct UserSums {
    /// Their name.
    pub user: String,
    /// Their sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// What is left to pay once the free vCPU-seconds of each month are taken off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Billable {
    /// vCPU-seconds that are free in each calendar month (UTC).
    pub free_vcpu_seconds_per_month: f64,
    /// vCPU-seconds beyond that.
    pub vcpu_seconds: f64,
    /// What they cost, at the average price of their month.
    pub cost: f64,
}

/// What was run over a period, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "UsageReport")]
pub struct Report {
    /// Begin of the period.
    pub from: Timestamp,
    /// Its end, which is not part of it.
    pub to: Timestamp,
    /// When the oldest record that is still there ended. Of what went before it only the metrics know; null where there
    /// is none.
    pub records_since: Option<Timestamp>,
    /// By user, the most expensive first.
    pub users: Vec<UserSums>,
    /// Of all users of the report.
    pub total: Sums,
    /// Only where the report is on all users: the free tier is the installation's, not each user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billable: Option<Billable>,
}

/// What was added up so far: a few numbers a user, and a month.
#[derive(Debug)]
pub struct Tally {
    period: Period,
    user: Option<String>,
    since: Option<Timestamp>,
    users: BTreeMap<String, Sums>,
    months: BTreeMap<Date, Sums>,
}

impl Tally {
    /// Of one user, or of all.
    #[must_use]
    pub fn new(period: Period, user: Option<&str>) -> Self {
        Self {
            period,
            user: user.map(ToOwned::to_owned),
            since: None,
            users: BTreeMap::new(),
            months: BTreeMap::new(),
        }
    }

    /// Adds an execution, if it is of the period and of the user.
    pub fn add(&mut self, ended: &Ended) {
        if self.user.as_ref().is_some_and(|user| *user != ended.user) {
            return;
        }
        self.since = Some(self.since.map_or(ended.at, |since| since.min(ended.at)));
        if self.period.contains(ended.at) {
            self.months.entry(month(ended.at)).or_default().add(ended);
            self.users.entry(ended.user.clone()).or_default().add(ended);
        }
    }

    /// All of it.
    #[must_use]
    pub fn report(self, free_vcpu_seconds: f64) -> Report {
        let mut users: Vec<UserSums> = self
            .users
            .into_iter()
            .map(|(user, sums)| UserSums { user, sums })
            .collect();
        // Stable: those who cost the same stay in the order of their names.
        users.sort_by(|one, other| other.sums.cost.total_cmp(&one.sums.cost));
        let billable = self
            .user
            .is_none()
            .then(|| billable(&self.months, free_vcpu_seconds));
        Report {
            from: self.period.from,
            to: self.period.to,
            records_since: self.since,
            total: total(&users),
            users,
            billable,
        }
    }
}

fn total(users: &[UserSums]) -> Sums {
    users
        .iter()
        .fold(Sums::default(), |total, UserSums { sums, .. }| Sums {
            executions: total.executions + sums.executions,
            succeeded: total.succeeded + sums.succeeded,
            failed: total.failed + sums.failed,
            timed_out: total.timed_out + sums.timed_out,
            cancelled: total.cancelled + sums.cancelled,
            vcpu_seconds: total.vcpu_seconds + sums.vcpu_seconds,
            cost: total.cost + sums.cost,
        })
}

fn billable(months: &BTreeMap<Date, Sums>, free: f64) -> Billable {
    let none = Billable {
        free_vcpu_seconds_per_month: free,
        vcpu_seconds: 0.0,
        cost: 0.0,
    };
    months.values().fold(none, |sum, month| {
        let beyond = (month.vcpu_seconds - free).max(0.0);
        let share = if beyond > 0.0 {
            beyond / month.vcpu_seconds
        } else {
            0.0
        };
        Billable {
            vcpu_seconds: sum.vcpu_seconds + beyond,
            cost: sum.cost + month.cost * share,
            ..sum
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plan's price of a vCPU-second.
    const PRICE: f64 = 0.000_034_17;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn ended(user: &str, when: &str, phase: Phase, vcpu_seconds: f64) -> Ended {
        Ended {
            user: user.to_owned(),
            at: at(when),
            phase,
            vcpu_seconds,
            cost: vcpu_seconds * PRICE,
        }
    }

    fn period(from: &str, to: &str) -> Period {
        Period {
            from: at(from),
            to: at(to),
        }
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn executions_add_up_by_user_within_the_period_only() {
        let mut tally = Tally::new(period("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), None);
        for execution in [
            ended("bob", "2026-01-01T10:00:00Z", Phase::Succeeded, 1.0),
            ended("alice", "2026-01-01T00:00:00Z", Phase::Failed, 2.0),
            ended("alice", "2026-01-01T11:00:00Z", Phase::TimedOut, 15.0),
            ended("alice", "2026-01-02T00:00:00Z", Phase::Succeeded, 100.0),
            ended("carol", "2025-12-31T23:59:59Z", Phase::Cancelled, 100.0),
        ] {
            tally.add(&execution);
        }
        let report = tally.report(0.0);
        let users: Vec<_> = report
            .users
            .iter()
            .map(|sums| (sums.user.as_str(), sums.sums.executions))
            .collect();
        assert_eq!(users, [("alice", 2), ("bob", 1)]);
        let total = report.total;
        assert_eq!(
            (total.succeeded, total.failed, total.timed_out, total.cancelled),
            (1, 1, 1, 0)
        );
        assert!(close(total.vcpu_seconds, 18.0) && close(total.cost, 18.0 * PRICE));
        assert_eq!(report.records_since, Some(at("2025-12-31T23:59:59Z")));
    }

    #[test]
    fn each_month_has_its_own_free_tier() {
        let mut tally = Tally::new(period("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"), None);
        tally.add(&ended(
            "alice",
            "2026-01-31T23:59:59Z",
            Phase::Succeeded,
            150_000.0,
        ));
        tally.add(&ended("bob", "2026-02-01T00:00:00Z", Phase::Succeeded, 60_000.0));
        tally.add(&ended(
            "alice",
            "2026-02-28T00:00:00Z",
            Phase::Succeeded,
            60_000.0,
        ));
        tally.add(&ended(
            "alice",
            "2026-03-01T00:00:00Z",
            Phase::Succeeded,
            99_999.0,
        ));
        let billable = tally.report(100_000.0).billable.expect("a report on all");
        assert!(close(billable.vcpu_seconds, 70_000.0), "{billable:?}");
        assert!(close(billable.cost, 70_000.0 * PRICE), "{billable:?}");
    }

    #[test]
    fn the_report_on_one_user_has_nobody_else_and_no_free_tier() {
        let mut tally = Tally::new(
            period("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            Some("bob"),
        );
        tally.add(&ended("bob", "2026-01-01T10:00:00Z", Phase::Succeeded, 1.0));
        tally.add(&ended("alice", "2026-01-01T09:00:00Z", Phase::Succeeded, 1.0));
        let report = tally.report(100_000.0);
        assert_eq!((report.users.len(), report.total.executions), (1, 1));
        assert_eq!(report.billable, None);
        assert_eq!(report.records_since, Some(at("2026-01-01T10:00:00Z")));
    }

    proptest! {
        /// Whatever ran: nothing is billed beyond the total, and the free tier takes off no more than itself a month.
        #[test]
        fn the_free_tier_takes_off_no_more_than_itself(
            runs in proptest::collection::vec((0_i64..3, 0.0_f64..50_000.0), 0..40),
        ) {
            let mut tally = Tally::new(period("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"), None);
            for (month, vcpu_seconds) in runs {
                let when = format!("2026-0{}-15T00:00:00Z", month + 1);
                tally.add(&ended("alice", &when, Phase::Succeeded, vcpu_seconds));
            }
            let report = tally.report(100_000.0);
            let billable = report.billable.expect("a report on all");
            prop_assert!(billable.vcpu_seconds <= report.total.vcpu_seconds + 1e-6);
            prop_assert!(billable.vcpu_seconds >= report.total.vcpu_seconds - 300_000.0 - 1e-6);
            prop_assert!((billable.cost - billable.vcpu_seconds * PRICE).abs() < 1e-6);
        }
    }
}
