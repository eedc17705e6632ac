//! Where the time of a warm execution goes, by its answers' own timings.

use std::fmt;

use codeexec_crds::Timings;
use serde::Serialize;

use super::report::percentile;

/// The median of each stage by itself, in milliseconds: they need not add up to that of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// Until the operator took the execution up; counted from a creation that is known to the second only.
    queue: i64,
    /// Until a Pod was ready.
    start: i64,
    /// Until the program started.
    claim: i64,
    /// The program.
    run: i64,
    /// Until its result was read.
    collect: i64,
    /// All of it but the queue, as the operator saw it.
    total: i64,
}

impl Stages {
    /// Nothing where there are no answers.
    #[must_use]
    pub fn of(timings: &[Timings]) -> Option<Self> {
        let median = |stage: fn(&Timings) -> i64| {
            let mut sorted: Vec<i64> = timings.iter().map(stage).collect();
            sorted.sort_unstable();
            percentile(&sorted, 50)
        };
        Some(Self {
            queue: median(|timings| timings.queue_ms)?,
            start: median(|timings| timings.start_ms)?,
            claim: median(|timings| timings.claim_ms)?,
            run: median(|timings| timings.run_ms)?,
            collect: median(|timings| timings.collect_ms)?,
            total: median(|timings| timings.total_ms)?,
        })
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            queue,
            start,
            claim,
            run,
            collect,
            total,
        } = self;
        write!(
            formatter,
            "queue {queue}, start {start}, claim {claim}, run {run}, collect {collect}; total {total} ms"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_median_of_its_own() {
        let timings = [(1, 9), (2, 8), (3, 7)].map(|(claim_ms, run_ms)| Timings {
            claim_ms,
            run_ms,
            total_ms: claim_ms + run_ms,
            ..Timings::default()
        });
        let stages = Stages::of(&timings).expect("there are some");
        assert_eq!(
            stages.to_string(),
            "queue 0, start 0, claim 2, run 8, collect 0; total 10 ms"
        );
        assert_eq!(Stages::of(&[]), None);
    }
}
