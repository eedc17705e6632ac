//! From samples to the table and the report.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::Footprint;

/// Times of one kind.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Sums them up.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            // The smallest sample that at least this share of them does not exceed.
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted
                .get(rank - 1)
                .map_or(0.0, |sample| round(sample.as_secs_f64() * 1000.0))
        };
        Summary {
            p50_ms: percentile(50),
            p90_ms: percentile(90),
            p99_ms: percentile(99),
            n: sorted.len(),
        }
    }
}

fn round(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

/// What the report says of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    n: usize,
}

/// Everything measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// By kind.
    #[serde(flatten)]
    pub times: BTreeMap<&'static str, Summary>,
    /// What each process takes beside its finished executions; empty where the cluster runs elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Footprint>,
}

impl Report {
    /// A ratio of two medians and what it should be at most.
    fn ratio(&self, of: &str, to: &str, target: f64) -> Option<String> {
        let (of_ms, to_ms) = (self.times.get(of)?.p50_ms, self.times.get(to)?.p50_ms);
        if to_ms == 0.0 {
            return None;
        }
        let ratio = of_ms / to_ms;
        let verdict = if ratio <= target { "met" } else { "MISSED" };
        Some(format!("{of} / {to} = {ratio:.2} (target {target}: {verdict})"))
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{:<16}{:>9}{:>9}{:>9}{:>6}\n", "ms", "p50", "p90", "p99", "n");
        for (
            kind,
            Summary {
                p50_ms,
                p90_ms,
                p99_ms,
                n,
            },
        ) in &self.times
        {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{kind:<16}{p50_ms:>9.1}{p90_ms:>9.1}{p99_ms:>9.1}{n:>6}");
        }
        let ratios = [
            self.ratio("cold", "floor.pod", 1.3),
            self.ratio("local", "floor.python", 3.0),
        ];
        for ratio in ratios.into_iter().flatten() {
            let _ = writeln!(text, "{ratio}");
        }
        for footprint in &self.idle {
            let _ = writeln!(text, "{footprint}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ms: impl IntoIterator<Item = u64>) -> Samples {
        Samples(ms.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_samples_that_really_happened() {
        let summary = samples((1..=100).rev()).summary();
        assert_eq!(
            (summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.n),
            (50.0, 90.0, 99.0, 100)
        );
        let summary = samples([7, 3]).summary();
        assert_eq!((summary.p50_ms, summary.p99_ms), (3.0, 7.0));
    }

    #[test]
    fn the_report_has_one_object_for_each_kind() {
        let mut report = Report::default();
        report.times.insert("cold", samples([10]).summary());
        report.times.insert("floor.pod", samples([8]).summary());
        let json = serde_json::to_value(&report).expect("a report is plain data");
        assert_eq!(
            json["floor.pod"],
            serde_json::json!({"p50_ms": 8.0, "p90_ms": 8.0, "p99_ms": 8.0, "n": 1})
        );
        assert!(
            report
                .table()
                .contains("cold / floor.pod = 1.25 (target 1.3: met)"),
            "{}",
            report.table()
        );
    }
}
