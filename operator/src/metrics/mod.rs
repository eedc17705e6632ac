//! What `/metrics` tells, in Prometheus' text format.

mod storage;

use codeexec_crds::{ExecutorPoolStatus, Isolation, Reachability};
use codeexec_execution::isolation::{Layer, word};
use codeexec_execution::metrics::Executions;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use self::storage::Storage;

type Labels<const N: usize> = [(&'static str, String); N];

/// The states that a target of the network probe can be in.
const STATES: [Reachability; 3] = [
    Reachability::Blocked,
    Reachability::Reachable,
    Reachability::Unknown,
];

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Executions that ended.
    pub executions: Executions,
    layers: Family<Labels<2>, Gauge>,
    network: Family<Labels<3>, Gauge>,
    pods: Family<Labels<2>, Gauge>,
    queued: Family<Labels<1>, Gauge>,
    leads: Gauge,
    events_dropped: Counter,
    /// What records take in etcd.
    pub storage: Storage,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("codeexec");
        let executions = Executions::default();
        executions.register(&mut registry);
        let (layers, network) = (Family::default(), Family::default());
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
        let storage = Storage::default();
        storage.register(&mut registry);
        let (leads, events_dropped) = (Gauge::default(), Counter::default());
        registry.register(
            "leader",
            "Whether this replica leads (1) or waits (0)",
            leads.clone(),
        );
        registry.register(
            "events_dropped",
            "Failures of the platform that no Event tells of, because there were too many",
            events_dropped.clone(),
        );
        Self {
            leads,
            events_dropped,
            storage,
            registry,
            executions,
            layers,
            network,
            pods,
            queued,
        }
    }
}

impl Metrics {
    /// Shows that this replica leads, which it does to its end.
    pub fn leads(&self) {
        self.leads.set(1);
    }

    /// Counts a failure without an Event.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
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
    use codeexec_crds::{CodeExecutionStatus, NetworkIsolation, Phase, Reason};

    use super::*;

    #[test]
    fn the_text_tells_ends_layers_and_targets() {
        let metrics = Metrics::default();
        let status = CodeExecutionStatus {
            phase: Some(Phase::Failed),
            reason: Some(Reason::OutOfMemory),
            ..CodeExecutionStatus::default()
        };
        metrics.executions.ended(true, &status);
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
        metrics.storage.cut("ends", "writes");
        metrics.leads();
        let text = metrics.text();
        for line in [
            "codeexec_executions_total{phase=\"Failed\",reason=\"OutOfMemory\"} 1",
            "codeexec_isolation_layer{pool=\"default\",layer=\"landlock\"} 1",
            "codeexec_isolation_layer{pool=\"default\",layer=\"seccomp\"} 0",
            "codeexec_isolation_network{pool=\"default\",target=\"dns\",state=\"reachable\"} 1",
            "codeexec_isolation_network{pool=\"default\",target=\"dns\",state=\"blocked\"} 0",
            "codeexec_outputs_cut_total{kept=\"ends\",why=\"writes\"} 1",
            "codeexec_leader 1",
            "codeexec_finished_records 0",
            "codeexec_finished_records_bytes 0",
            "codeexec_write_budget_left_bytes 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    /// The API server's have a test beside it.
    #[test]
    fn what_dashboard_and_alerts_ask_for_is_told() {
        let metrics = Metrics::default();
        metrics.executions.ended(
            false,
            &CodeExecutionStatus {
                timings: Some(codeexec_crds::Timings::default()),
                ..CodeExecutionStatus::default()
            },
        );
        metrics.isolation("default", &Isolation::default());
        metrics.pool("default", 1, &ExecutorPoolStatus::default());
        metrics.storage.cut("ends", "writes");
        let text = metrics.text();
        let monitoring = include_str!("../../../charts/codeexec/files/dashboard.json").to_owned()
            + include_str!("../../../charts/codeexec/templates/monitoring/prometheusrule.yaml");
        let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let asked: std::collections::BTreeSet<&str> = monitoring
            .split(|character| !word(character))
            .filter(|name| name.starts_with("codeexec_") && !name.starts_with("codeexec_api_"))
            .collect();
        assert!(asked.len() > 10, "{asked:?}");
        for name in asked {
            let told = |line: &str| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert!(text.lines().any(told), "{name} is not in\n{text}");
        }
    }
}
