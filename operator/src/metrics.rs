//! What `/metrics` tells, in Prometheus' text format.

use codeexec_crds::{ExecutorPoolStatus, Isolation, Phase, Reachability, Reason, Timings};
use codeexec_execution::isolation::{Layer, word};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type Labels<const N: usize> = [(&'static str, String); N];

/// The states that a target of the network probe can be in.
const STATES: [Reachability; 3] = [
    Reachability::Blocked,
    Reachability::Reachable,
    Reachability::Unknown,
];

/// From what an idle Pod takes to the longest timeout with a queue before it.
fn stage_histogram() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ])
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    executions: Family<Labels<2>, Counter>,
    layers: Family<Labels<2>, Gauge>,
    network: Family<Labels<3>, Gauge>,
    pods: Family<Labels<2>, Gauge>,
    queued: Family<Labels<1>, Gauge>,
    stages: Family<Labels<2>, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("codeexec");
        let (executions, layers, network) = (Family::default(), Family::default(), Family::default());
        registry.register(
            "executions",
            "Executions that ended, by phase and reason",
            executions.clone(),
        );
        registry.register(
            "isolation_layer",
            "Whether a layer of isolation was in force (1) in the last Pod of a pool that reported",
            layers.clone(),
        );
        registry.register(
            "isolation_network",
            "What the last Pod of a pool could reach apart from the program's filter: 1 at the state of each target",
            network.clone(),
        );
        let (pods, queued) = (Family::default(), Family::default());
        registry.register(
            "pool_pods",
            "Pods of a pool: idle and wanted, idle and there, idle and ready, and claimed by executions",
            pods.clone(),
        );
        registry.register(
            "pool_queued",
            "Executions that wait for their turn in a pool",
            queued.clone(),
        );
        let stages = Family::new_with_constructor(stage_histogram as fn() -> Histogram);
        registry.register_with_unit(
            "execution_stage",
            "How long each stage of an execution took: queue, start, claim, run, collect, and total",
            Unit::Seconds,
            stages.clone(),
        );
        Self {
            registry,
            executions,
            layers,
            network,
            pods,
            queued,
            stages,
        }
    }
}

impl Metrics {
    /// Counts an execution's end.
    pub fn ended(&self, phase: Option<Phase>, reason: Option<Reason>) {
        let labels = [
            ("phase", phase.map_or("", Phase::as_str).to_owned()),
            ("reason", reason.map_or("", Reason::as_str).to_owned()),
        ];
        self.executions.get_or_create(&labels).inc();
    }

    /// Notes how long the stages of an execution took.
    pub fn stages(&self, warm: bool, timings: &Timings) {
        for (stage, ms) in [
            ("queue", timings.queue_ms),
            ("start", timings.start_ms),
            ("claim", timings.claim_ms),
            ("run", timings.run_ms),
            ("collect", timings.collect_ms),
            ("total", timings.total_ms),
        ] {
            let labels = [("stage", stage.to_owned()), ("warm", warm.to_string())];
            // Far below where a float is exact no more.
            #[allow(clippy::cast_precision_loss)]
            self.stages.get_or_create(&labels).observe(ms as f64 / 1000.0);
        }
    }

    /// Shows how a pool stands.
    pub fn pool(&self, pool: &str, wanted: i32, status: &ExecutorPoolStatus) {
        for (state, count) in [
            ("wanted", wanted),
            ("idle", status.replicas),
            ("ready", status.ready),
            ("claimed", status.claimed),
        ] {
            let labels = [("pool", pool.to_owned()), ("state", state.to_owned())];
            self.pods.get_or_create(&labels).set(count.into());
        }
        let labels = [("pool", pool.to_owned())];
        self.queued.get_or_create(&labels).set(status.queued.into());
    }

    /// Shows what a Pod of a pool reported.
    pub fn isolation(&self, pool: &str, isolation: &Isolation) {
        for layer in Layer::ALL {
            let labels = [("pool", pool.to_owned()), ("layer", layer.to_string())];
            let in_force = layer.is_in_force(isolation);
            self.layers.get_or_create(&labels).set(i64::from(in_force));
        }
        let network = isolation.network;
        for (target, found) in [
            ("kubernetesApi", network.kubernetes_api),
            ("metadata", network.metadata),
            ("dns", network.dns),
        ] {
            for state in STATES {
                let labels = [
                    ("pool", pool.to_owned()),
                    ("target", target.to_owned()),
                    ("state", word(state).to_owned()),
                ];
                self.network.get_or_create(&labels).set(i64::from(state == found));
            }
        }
    }

    /// All of it as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail, and the metrics' own encoders don't.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use codeexec_crds::NetworkIsolation;

    use super::*;

    #[test]
    fn the_text_tells_ends_layers_and_targets() {
        let metrics = Metrics::default();
        metrics.ended(Some(Phase::Failed), Some(Reason::OutOfMemory));
        let network = NetworkIsolation {
            dns: Reachability::Reachable,
            ..NetworkIsolation::default()
        };
        let isolation = Isolation {
            landlock_abi: 6,
            network,
            ..Isolation::default()
        };
        metrics.isolation("default", &isolation);
        let text = metrics.text();
        for line in [
            "codeexec_executions_total{phase=\"Failed\",reason=\"OutOfMemory\"} 1",
            "codeexec_isolation_layer{pool=\"default\",layer=\"landlock\"} 1",
            "codeexec_isolation_layer{pool=\"default\",layer=\"seccomp\"} 0",
            "codeexec_isolation_network{pool=\"default\",target=\"dns\",state=\"reachable\"} 1",
            "codeexec_isolation_network{pool=\"default\",target=\"dns\",state=\"blocked\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
