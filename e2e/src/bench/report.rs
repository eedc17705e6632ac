//! From samples to the table and the report.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::{Footprint, Stages, targets};

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
        let percentile =
            |percent| percentile(&sorted, percent).map_or(0.0, |sample| round(sample.as_secs_f64() * 1000.0));
        Summary {
            p50_ms: percentile(50),
            p90_ms: percentile(90),
            p99_ms: percentile(99),
            n: sorted.len(),
        }
    }
}

/// Of what is sorted: the smallest that at least this share does not exceed.
pub(super) fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

/// Samples of several kinds, of which each round takes one.
#[derive(Clone, Debug)]
pub struct Rounds<const N: usize> {
    kinds: [&'static str; N],
    taken: [Samples; N],
}

impl<const N: usize> Rounds<N> {
    /// None yet.
    #[must_use]
    pub const fn new(kinds: [&'static str; N]) -> Self {
        Self {
            kinds,
            taken: [const { Samples::new() }; N],
        }
    }

    /// Adds one, in the order of the kinds.
    pub fn push(&mut self, times: [Duration; N]) {
        for (samples, time) in self.taken.iter_mut().zip(times) {
            samples.push(time);
        }
    }
}

/// What the report says of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The median.
    pub p50_ms: f64,
    /// What nine of ten do not exceed.
    pub p90_ms: f64,
    /// What all but one in a hundred do not exceed.
    pub p99_ms: f64,
    /// How many there were.
    pub n: usize,
}

/// How many of something ended in a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// As often as that.
    pub per_second: f64,
    /// How many there were.
    pub n: usize,
}

/// What the runner's own layers add to the median, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IsolationOverhead {
    /// To a runner that is started with its request.
    pub cold: f64,
    /// To one that waits for it.
    pub warm: f64,
}

/// What something adds to the median of a Pod's start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PodCost {
    /// So many milliseconds.
    Ms(f64),
    /// No such Pod starts here; why.
    Unavailable(String),
}

impl fmt::Display for PodCost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ms(ms) => write!(formatter, "{ms:.2}"),
            Self::Unavailable(why) => formatter.write_str(why),
        }
    }
}

/// Everything measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// By kind.
    #[serde(flatten)]
    pub times: BTreeMap<&'static str, Summary>,
    /// By kind; none is also one of `times`.
    #[serde(flatten)]
    pub rates: BTreeMap<&'static str, Rate>,
    /// Where the time of the kind `warm` went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_stages_ms: Option<Stages>,
    /// The kinds `layers` and `bare` compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_overhead_ms: Option<IsolationOverhead>,
    /// The kinds `api.full` and `api.bare` compared: what the API server does beside handing programs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_overhead_ms: Option<f64>,
    /// Memory of an API server, in MB, with 1,000 clients that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_waiting_mb: Option<f64>,
    /// A Pod in a user namespace of its own compared with one in the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_user_namespace_ms: Option<PodCost>,
    /// A Pod with the pool's RuntimeClass compared with one without; nothing where the pool has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_runtime_class_ms: Option<PodCost>,
    /// What each process takes beside its finished executions; empty where the cluster runs elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Footprint>,
}

impl Report {
    /// Takes in what was measured.
    pub fn add<const N: usize>(&mut self, rounds: &Rounds<N>) {
        let summaries = rounds.taken.iter().map(Samples::summary);
        self.times.extend(rounds.kinds.into_iter().zip(summaries));
    }

    /// Takes in that `n` ended within this time.
    pub fn add_rate(&mut self, kind: &'static str, n: usize, within: Duration) {
        // Counts are far below what a float holds exactly.
        let per_second = n as f64 / within.as_secs_f64();
        let rate = Rate {
            // Pods that import for seconds are less than one a second.
            per_second: (per_second * 1000.0).round() / 1000.0,
            n,
        };
        self.rates.insert(kind, rate);
    }

    /// How much longer the median of one kind is than that of another, in milliseconds.
    #[must_use]
    pub fn difference(&self, of: &str, to: &str) -> Option<f64> {
        Some(round(self.times.get(of)?.p50_ms - self.times.get(to)?.p50_ms))
    }

    /// Compares the kinds of runners, once they are in the report.
    pub fn compare_isolation(&mut self) {
        let cold = self.difference("layers.cold", "bare.cold");
        let warm = self.difference("layers.warm", "bare.warm");
        self.isolation_overhead_ms = cold
            .zip(warm)
            .map(|(cold, warm)| IsolationOverhead { cold, warm });
    }

    /// Compares the API server with itself, once both kinds are in the report.
    pub fn compare_api(&mut self) {
        self.api_overhead_ms = self.difference("api.full", "api.bare");
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        if !self.times.is_empty() {
            let _ = writeln!(text, "{:<18}{:>9}{:>9}{:>9}{:>6}", "ms", "p50", "p90", "p99", "n");
        }
        for (kind, summary) in &self.times {
            let Summary {
                p50_ms,
                p90_ms,
                p99_ms,
                n,
            } = summary;
            let _ = writeln!(text, "{kind:<18}{p50_ms:>9.2}{p90_ms:>9.2}{p99_ms:>9.2}{n:>6}");
        }
        if !self.rates.is_empty() {
            let _ = writeln!(text, "{:<18}{:>9}{:>24}", "a second", "", "n");
        }
        for (kind, Rate { per_second, n }) in &self.rates {
            let _ = writeln!(text, "{kind:<18}{per_second:>9.2}{n:>24}");
        }
        for line in targets::lines(self) {
            let _ = writeln!(text, "{line}");
        }
        if let Some(stages) = &self.warm_stages_ms {
            let _ = writeln!(text, "warm, the median of each stage: {stages}");
        }
        let pods = [
            ("pod_user_namespace_ms", &self.pod_user_namespace_ms),
            ("pod_runtime_class_ms", &self.pod_runtime_class_ms),
        ];
        for (name, cost) in pods {
            if let Some(cost) = cost {
                let _ = writeln!(text, "{name}: {cost}");
            }
        }
        for footprint in &self.idle {
            let _ = writeln!(text, "{footprint}");
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn samples(ms: impl IntoIterator<Item = u64>) -> Samples {
        Samples(ms.into_iter().map(Duration::from_millis).collect())
    }

    /// A report of one sample of each kind, in milliseconds, and of what was counted in ten seconds.
    pub fn report(times: &[(&'static str, u64)], rates: &[(&'static str, usize)]) -> Report {
        let mut report = Report::default();
        for &(kind, ms) in times {
            report.times.insert(kind, samples([ms]).summary());
        }
        for &(kind, n) in rates {
            report.add_rate(kind, n, Duration::from_secs(10));
        }
        report
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

    #[test]
    fn rates_stand_beside_the_times() {
        let mut report = Report::default();
        report.times.insert("warm", samples([10]).summary());
        report.add_rate("sustained", 31, Duration::from_secs(20));
        let json = serde_json::to_value(&report).expect("a report is plain data");
        assert_eq!(
            json["sustained"],
            serde_json::json!({"per_second": 1.55, "n": 31})
        );
        let table = report.table();
        assert!(
            table.contains("sustained              1.55                      31\n"),
            "{table}"
        );
    }

    #[test]
    fn what_the_layers_cost_is_the_difference_of_medians_beside_its_target() {
        let mut report = Report::default();
        for (kind, ms) in [
            ("layers.cold", 50),
            ("bare.cold", 47),
            ("layers.warm", 5),
            ("bare.warm", 2),
        ] {
            report.times.insert(kind, samples([ms]).summary());
        }
        report.compare_isolation();
        report.pod_user_namespace_ms = Some(PodCost::Unavailable("not available here: no".to_owned()));
        let json = serde_json::to_value(&report).expect("a report is plain data");
        assert_eq!(
            json["isolation_overhead_ms"],
            serde_json::json!({"cold": 3.0, "warm": 3.0})
        );
        assert_eq!(json["pod_user_namespace_ms"], "not available here: no");
        assert_eq!(json.get("pod_runtime_class_ms"), None);
        let table = report.table();
        assert!(
            table.contains("layers.cold - bare.cold = 3.00 ms (target 10: met)"),
            "{table}"
        );
        assert!(
            table.contains("layers.warm - bare.warm = 3.00 ms (target 2: MISSED)"),
            "{table}"
        );
    }
}
