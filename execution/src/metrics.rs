//! What executions come to, in Prometheus' terms: the same names whether an operator counts them or local mode.

use std::sync::atomic::AtomicU64;

use codeexec_crds::{CodeExecutionStatus, Phase, Reason, Timings, Usage};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type Labels = [(&'static str, String); 2];

/// From what an idle Pod takes to the longest timeout with a queue before it. 3 is the plan's bound on the average.
fn stage_histogram() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.0, 5.0, 10.0, 30.0, 60.0,
    ])
}

/// Executions that ended.
#[derive(Debug)]
pub struct Executions {
    ended: Family<Labels, Counter>,
    stages: Family<Labels, Histogram, fn() -> Histogram>,
    vcpu_seconds: Counter<f64, AtomicU64>,
    cpu_seconds: Counter<f64, AtomicU64>,
    cost: Counter<f64, AtomicU64>,
}

impl Default for Executions {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            stages: Family::new_with_constructor(stage_histogram),
            vcpu_seconds: Counter::default(),
            cpu_seconds: Counter::default(),
            cost: Counter::default(),
        }
    }
}

impl Executions {
    /// Registers all of them. The registry's prefix is `codeexec`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "executions",
            "Executions that ended, by phase and reason",
            self.ended.clone(),
        );
        registry.register_with_unit(
            "execution_stage",
            "How long each stage of an execution took: queue, start, claim, run, collect, and total",
            Unit::Seconds,
            self.stages.clone(),
        );
        registry.register_with_unit(
            "vcpu",
            "CPU that programs were given times the time they ran, which is what they cost",
            Unit::Seconds,
            self.vcpu_seconds.clone(),
        );
        registry.register_with_unit(
            "cpu",
            "CPU time that programs used",
            Unit::Seconds,
            self.cpu_seconds.clone(),
        );
        registry.register(
            "cost",
            "vCPU-seconds times their price, before any free tier",
            self.cost.clone(),
        );
    }

    /// Counts a result. `warm`: its Pod stood ready beforehand.
    pub fn ended(&self, warm: bool, status: &CodeExecutionStatus) {
        let labels = [
            ("phase", status.phase.map_or("", Phase::as_str).to_owned()),
            ("reason", status.reason.map_or("", Reason::as_str).to_owned()),
        ];
        self.ended.get_or_create(&labels).inc();
        if let Some(timings) = &status.timings {
            self.took(warm, timings);
        }
        if let Some(usage) = &status.usage {
            self.used(usage);
        }
    }

    fn took(&self, warm: bool, timings: &Timings) {
        for (stage, ms) in [
            ("queue", timings.queue_ms),
            ("start", timings.start_ms),
            ("claim", timings.claim_ms),
            ("run", timings.run_ms),
            ("collect", timings.collect_ms),
            ("total", timings.total_ms),
        ] {
            let labels = [("stage", stage.to_owned()), ("warm", warm.to_string())];
            self.stages.get_or_create(&labels).observe(seconds(ms));
        }
    }

    fn used(&self, usage: &Usage) {
        self.vcpu_seconds.inc_by(usage.vcpu_seconds);
        self.cpu_seconds.inc_by(seconds(usage.cpu_ms));
        self.cost.inc_by(usage.cost);
    }
}

/// Far below where a float is exact no more.
#[allow(clippy::cast_precision_loss)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_result_is_counted_with_its_stages_and_its_cost() {
        let (executions, mut registry) = (Executions::default(), Registry::with_prefix("codeexec"));
        executions.register(&mut registry);
        let status = CodeExecutionStatus {
            phase: Some(Phase::Failed),
            reason: Some(Reason::OutOfMemory),
            timings: Some(Timings {
                run_ms: 2700,
                ..Timings::default()
            }),
            usage: Some(Usage {
                cpu_ms: 1500,
                vcpu_seconds: 2.5,
                cost: 0.25,
                ..Usage::default()
            }),
            ..CodeExecutionStatus::default()
        };
        executions.ended(true, &status);
        executions.ended(true, &status);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "codeexec_executions_total{phase=\"Failed\",reason=\"OutOfMemory\"} 2",
            "codeexec_vcpu_seconds_total 5",
            "codeexec_cpu_seconds_total 3",
            "codeexec_cost_total 0.5",
            "codeexec_execution_stage_seconds_sum{stage=\"run\",warm=\"true\"} 5.4",
            "codeexec_execution_stage_seconds_bucket{le=\"2.5\",stage=\"run\",warm=\"true\"} 0",
            "codeexec_execution_stage_seconds_bucket{le=\"3.0\",stage=\"run\",warm=\"true\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
