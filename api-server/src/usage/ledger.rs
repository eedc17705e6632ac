//! Local mode's memory of what has ended.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use codeexec_crds::CodeExecutionStatus;
use jiff::Timestamp;

use super::report::{Ended, Tally};

/// Most executions that are remembered, the same as records in a cluster.
const MOST: usize = 20_000;

/// The last executions, in the order in which they ended.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<VecDeque<Ended>>);

impl Ledger {
    /// Notes an execution that has ended. The oldest makes room for it.
    pub fn note(&self, user: &str, status: &CodeExecutionStatus) {
        let Some(phase) = status.phase else { return };
        let usage = status.usage.unwrap_or_default();
        let ended = Ended {
            user: user.to_owned(),
            at: status
                .completion_time
                .as_ref()
                .map_or_else(Timestamp::now, |time| time.0),
            phase,
            vcpu_seconds: usage.vcpu_seconds,
            cost: usage.cost,
        };
        // A panic elsewhere can't have left the queue half written.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back(ended);
    }

    pub(super) fn tell(&self, tally: &mut Tally) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().for_each(|ended| tally.add(ended));
    }
}

#[cfg(test)]
mod tests {
    use codeexec_crds::{Phase, Usage};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::usage::{Period, Source, Usage as Reports};

    #[tokio::test]
    async fn the_oldest_are_forgotten() {
        let ledger = std::sync::Arc::new(Ledger::default());
        let moment = |second| Timestamp::from_second(second).expect("a time");
        for second in 0..=20_000 {
            let status = CodeExecutionStatus {
                phase: Some(Phase::Succeeded),
                completion_time: Some(Time(moment(second))),
                usage: Some(Usage {
                    vcpu_seconds: 0.5,
                    ..Usage::default()
                }),
                ..CodeExecutionStatus::default()
            };
            ledger.note("alice", &status);
        }
        let period = Period {
            from: moment(0),
            to: moment(30_000),
        };
        let reports = Reports::new(Source::Ledger(ledger), 0.0);
        let report = reports.report(&period, Some("alice")).await.expect("a report");
        assert_eq!(report.total.executions, 20_000);
        assert_eq!(report.records_since, Some(moment(1)));
    }
}
