//! What records take in etcd, and what was cut to keep it there.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Labels;
use crate::retention::kept::Kept;

/// The metrics of [`crate::etcd`] and [`crate::retention`].
#[derive(Debug, Default)]
pub struct Storage {
    cut: Family<Labels<2>, Counter>,
    budget: Gauge,
    records: Gauge,
    record_bytes: Gauge,
    output_bytes: Gauge,
}

impl Storage {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "outputs_cut",
            "Results whose output was cut, by what was kept (ends, heads, or part of it) and why (writes: more was written \
             than etcd can bear; retained: more was kept; refused: the Kubernetes API found it too large)",
            self.cut.clone(),
        );
        registry.register_with_unit(
            "write_budget_left",
            "What may be written to etcd before outputs are cut; less than nothing where small results alone are more",
            Unit::Bytes,
            self.budget.clone(),
        );
        registry.register(
            "finished_records",
            "Finished records that are kept",
            self.records.clone(),
        );
        registry.register_with_unit(
            "finished_records",
            "What they take in etcd, apart from outputs beyond their first KiB",
            Unit::Bytes,
            self.record_bytes.clone(),
        );
        registry.register_with_unit(
            "retained_outputs",
            "What outputs beyond their first KiB take",
            Unit::Bytes,
            self.output_bytes.clone(),
        );
    }

    /// Counts a result whose output was cut.
    pub fn cut(&self, kept: &'static str, why: &'static str) {
        let labels = [("kept", kept.to_owned()), ("why", why.to_owned())];
        self.cut.get_or_create(&labels).inc();
    }

    /// Shows what may still be written, in bytes.
    pub fn budget(&self, left: i64) {
        self.budget.set(left);
    }

    /// Shows what is kept.
    pub fn kept(&self, kept: &Kept) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.records
            .set(i64::try_from(kept.records()).unwrap_or(i64::MAX));
        self.record_bytes.set(bytes(kept.record_bytes()));
        self.output_bytes.set(bytes(kept.output_bytes()));
    }
}
