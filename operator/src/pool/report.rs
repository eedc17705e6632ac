//! What each pool's status says of the isolation of its Pods: as the last of them reported.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use codeexec_crds::{Isolation, NetworkIsolation, Reachability};
use codeexec_execution::isolation::Layer;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::driver::Context;

/// Type of the condition that compares what is in force with what is required.
const CONDITION: &str = "Isolated";

/// What was written last, by pool.
#[derive(Debug, Default)]
pub struct Reports(Mutex<HashMap<String, Isolation>>);

impl Reports {
    /// Takes a Pod's report, and returns what the pool's status should say if that is news.
    fn take(&self, pool: &str, isolation: &Isolation) -> Option<Isolation> {
        // A panic elsewhere can't have left the map half written.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(pool);
        let network = before.map_or(isolation.network, |before| {
            latest_known(before.network, isolation.network)
        });
        let now = Isolation {
            network,
            ..isolation.clone()
        };
        if before == Some(&now) {
            return None;
        }
        known.insert(pool.to_owned(), now.clone());
        Some(now)
    }

    /// The last report of a pool's Pods, and the condition that compares it with what is required.
    pub(super) fn of(
        &self,
        pool: &str,
        required: &[Layer],
        now: Timestamp,
    ) -> Option<(Isolation, Condition)> {
        let isolation = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pool)?
            .clone();
        let condition = condition(&isolation, required, now);
        Some((isolation, condition))
    }
}

/// A program may end before its network is known: that is no reason to forget what an earlier Pod found.
fn latest_known(before: NetworkIsolation, now: NetworkIsolation) -> NetworkIsolation {
    let latest = |before, now| if now == Reachability::Unknown { before } else { now };
    NetworkIsolation {
        kubernetes_api: latest(before.kubernetes_api, now.kubernetes_api),
        metadata: latest(before.metadata, now.metadata),
        dns: latest(before.dns, now.dns),
    }
}

/// Shows what a Pod of a pool reported: in the metrics at once, in the pool's status by and by.
pub fn report(context: &Context, pool: &str, isolation: &Isolation) {
    if let Some(isolation) = context.reports.take(pool, isolation) {
        context.metrics.isolation(pool, &isolation);
        context.pools.look_again();
    }
}

fn condition(isolation: &Isolation, required: &[Layer], now: Timestamp) -> Condition {
    let (in_force, missing): (Vec<Layer>, Vec<Layer>) = Layer::ALL
        .into_iter()
        .partition(|layer| layer.is_in_force(isolation));
    let met = required.iter().all(|layer| in_force.contains(layer));
    Condition {
        type_: CONDITION.to_owned(),
        status: if met { "True" } else { "False" }.to_owned(),
        reason: if met {
            "RequiredLayersInForce"
        } else {
            "RequiredLayerMissing"
        }
        .to_owned(),
        message: format!(
            "in force: {}; not in force: {}; required: {}",
            names(&in_force),
            names(&missing),
            names(required)
        ),
        last_transition_time: Time(now),
        observed_generation: None,
    }
}

fn names(layers: &[Layer]) -> String {
    if layers.is_empty() {
        return "none".to_owned();
    }
    layers
        .iter()
        .map(|layer| layer.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(dns: Reachability) -> Isolation {
        Isolation {
            seccomp: true,
            no_new_privileges: true,
            network: NetworkIsolation {
                dns,
                ..NetworkIsolation::default()
            },
            ..Isolation::default()
        }
    }

    #[test]
    fn only_news_is_written_and_unknown_is_none() {
        let reports = Reports::default();
        let blocked = seen(Reachability::Blocked);
        assert_eq!(reports.take("a", &blocked), Some(blocked.clone()));
        assert_eq!(reports.take("a", &blocked), None);
        assert_eq!(reports.take("a", &seen(Reachability::Unknown)), None);
        assert_eq!(
            reports.take("a", &seen(Reachability::Reachable)),
            Some(seen(Reachability::Reachable))
        );
        assert_eq!(reports.take("b", &blocked), Some(blocked));
    }

    #[test]
    fn the_condition_says_what_is_in_force_and_whether_that_is_enough() {
        let now = Timestamp::UNIX_EPOCH;
        let isolation = seen(Reachability::Unknown);
        let enough = condition(&isolation, &[Layer::Seccomp], now);
        assert_eq!(enough.status, "True");
        assert_eq!(
            enough.message,
            "in force: seccomp; not in force: landlock, userNamespace, networkPolicy, runtimeClass; required: seccomp"
        );
        assert_eq!(
            condition(&isolation, &[Layer::NetworkPolicy], now).status,
            "False"
        );
    }
}
