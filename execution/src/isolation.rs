//! Which layers of isolation were in force, and whether those are among them that an installation requires.

use std::fmt;
use std::str::FromStr;

use codeexec_crds::{Isolation, NetworkIsolation, Reachability};
use codeexec_runner::frames::{IsolationReport, NetworkReport, Reach};

/// A layer that an installation can require.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// The runner's system-call filter.
    Seccomp,
    /// Landlock, at whatever ABI.
    Landlock,
    /// A user namespace of the Pod's own.
    UserNamespace,
    /// A network that lets nothing through to the Kubernetes API, the cloud's metadata or the DNS.
    NetworkPolicy,
    /// A RuntimeClass, such as that of gVisor or Kata.
    RuntimeClass,
}

impl Layer {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::Seccomp,
        Self::Landlock,
        Self::UserNamespace,
        Self::NetworkPolicy,
        Self::RuntimeClass,
    ];

    /// Its name in settings and texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::UserNamespace => "userNamespace",
            Self::NetworkPolicy => "networkPolicy",
            Self::RuntimeClass => "runtimeClass",
        }
    }

    /// Whether it was in force. What is not known is not in force.
    #[must_use]
    pub fn is_in_force(self, isolation: &Isolation) -> bool {
        match self {
            Self::Seccomp => isolation.seccomp && isolation.no_new_privileges,
            Self::Landlock => isolation.landlock_abi > 0,
            Self::UserNamespace => isolation.user_namespace,
            Self::NetworkPolicy => {
                let NetworkIsolation {
                    kubernetes_api,
                    metadata,
                    dns,
                } = isolation.network;
                [kubernetes_api, metadata, dns]
                    .iter()
                    .all(|target| *target == Reachability::Blocked)
            }
            Self::RuntimeClass => isolation.runtime_class.is_some(),
        }
    }

    /// What was found of it, in words.
    #[must_use]
    pub fn found(self, isolation: &Isolation) -> String {
        match self {
            Self::Landlock if isolation.landlock_abi > 0 => format!("ABI {}", isolation.landlock_abi),
            Self::NetworkPolicy => {
                let network = isolation.network;
                format!(
                    "the Kubernetes API is {}, metadata {}, DNS {}",
                    word(network.kubernetes_api),
                    word(network.metadata),
                    word(network.dns)
                )
            }
            Self::RuntimeClass => isolation
                .runtime_class
                .clone()
                .unwrap_or_else(|| "the cluster's default runtime".to_owned()),
            _ if self.is_in_force(isolation) => "in force".to_owned(),
            _ => "missing".to_owned(),
        }
    }

    /// What somebody can do who misses it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Seccomp => {
                "use a kernel and a container runtime that let a container filter its own system calls"
            }
            Self::Landlock => {
                "use nodes with Linux 5.13 or newer that have landlock in their list of security modules"
            }
            Self::UserNamespace => {
                "use Kubernetes 1.33 or newer on nodes with Linux 6.3, containerd 2.0 and runc 1.2, and leave executor.hostUsers unset or false"
            }
            Self::NetworkPolicy => {
                "use a network plugin that enforces NetworkPolicies, such as Calico or Cilium, and leave the deny-all policy of the executions' namespace in place"
            }
            Self::RuntimeClass => {
                "install gVisor or Kata Containers, and name its RuntimeClass in executor.runtimeClass or the pool's runtimeClassName"
            }
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Not the name of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no layer of isolation; there are seccomp, landlock, userNamespace, networkPolicy and runtimeClass"
)]
pub struct UnknownLayer(String);

impl FromStr for Layer {
    type Err = UnknownLayer;

    fn from_str(name: &str) -> Result<Self, UnknownLayer> {
        Self::ALL
            .into_iter()
            .find(|layer| layer.as_str() == name)
            .ok_or_else(|| UnknownLayer(name.to_owned()))
    }
}

/// How what is required compares with what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known yet, or something that may still turn out well.
    #[default]
    Pending,
    /// All that is required is in force.
    Met,
    /// Something is missing: a sentence that names it and says what to do.
    Missing(String),
}

/// Compares what is required with what a runner reported.
#[must_use]
pub fn verdict(
    required: &[Layer],
    report: &IsolationReport,
    network: &NetworkReport,
    runtime_class: Option<&str>,
) -> Verdict {
    let isolation = isolation(report, network, runtime_class.map(str::to_owned));
    let missing: Vec<_> = required
        .iter()
        .filter(|layer| !layer.is_in_force(&isolation))
        .collect();
    // What one connection has reached, no other can take back.
    let open = network.targets().contains(&Reach::Reachable);
    match missing.as_slice() {
        [] => Verdict::Met,
        [Layer::NetworkPolicy] if network.is_pending() && !open => Verdict::Pending,
        missing => Verdict::Missing(sentence(missing, &isolation)),
    }
}

/// What no Pod of a pool can have, as its spec says: a sentence, before there is a Pod.
#[must_use]
pub fn out_of_reach(
    required: &[Layer],
    runtime_class: Option<&str>,
    host_users: Option<bool>,
) -> Option<String> {
    let out_of_reach = |layer: &&Layer| match layer {
        Layer::RuntimeClass => runtime_class.is_none(),
        Layer::UserNamespace => host_users == Some(true),
        Layer::Seccomp | Layer::Landlock | Layer::NetworkPolicy => false,
    };
    let missing: Vec<_> = required.iter().filter(out_of_reach).collect();
    (!missing.is_empty()).then(|| sentence(&missing, &Isolation::default()))
}

fn sentence(missing: &[&Layer], isolation: &Isolation) -> String {
    let each: Vec<_> = missing
        .iter()
        .map(|layer| format!("{layer} ({}): {}", layer.found(isolation), layer.remedy()))
        .collect();
    format!(
        "this installation requires isolation that the Pod does not have: {}",
        each.join("; ")
    )
}

/// The record of what was in force.
#[must_use]
pub fn isolation(
    report: &IsolationReport,
    network: &NetworkReport,
    runtime_class: Option<String>,
) -> Isolation {
    let IsolationReport {
        user_namespace,
        seccomp,
        landlock_abi,
        no_new_privileges,
    } = report.clone();
    Isolation {
        runtime_class,
        user_namespace,
        seccomp,
        landlock_abi,
        no_new_privileges,
        network: NetworkIsolation {
            kubernetes_api: reachability(network.kubernetes_api),
            metadata: reachability(network.metadata),
            dns: reachability(network.dns),
        },
    }
}

/// What two looks at the same network tell together; the later one knows at least as much.
#[must_use]
pub fn later(before: NetworkReport, after: NetworkReport) -> NetworkReport {
    let newer = |before, after| if after == Reach::Pending { before } else { after };
    NetworkReport {
        kubernetes_api: newer(before.kubernetes_api, after.kubernetes_api),
        metadata: newer(before.metadata, after.metadata),
        dns: newer(before.dns, after.dns),
    }
}

fn reachability(reach: Reach) -> Reachability {
    match reach {
        Reach::Blocked => Reachability::Blocked,
        Reach::Reachable => Reachability::Reachable,
        Reach::Pending | Reach::Unknown => Reachability::Unknown,
    }
}

/// A target's state as it stands in the resource.
#[must_use]
pub fn word(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Blocked => "blocked",
        Reachability::Reachable => "reachable",
        Reachability::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> IsolationReport {
        IsolationReport {
            user_namespace: false,
            seccomp: true,
            landlock_abi: 6,
            no_new_privileges: true,
        }
    }

    fn network(reach: Reach) -> NetworkReport {
        NetworkReport {
            kubernetes_api: Reach::Blocked,
            metadata: Reach::Blocked,
            dns: reach,
        }
    }

    fn of_network(reach: Reach) -> Verdict {
        verdict(&[Layer::NetworkPolicy], &report(), &network(reach), None)
    }

    #[test]
    fn a_layer_is_named_as_in_the_chart() {
        for layer in Layer::ALL {
            assert_eq!(layer.as_str().parse(), Ok(layer));
        }
        let error = "selinux".parse::<Layer>().expect_err("no such layer");
        assert!(
            error.to_string().starts_with("\"selinux\" is no layer"),
            "{error}"
        );
    }

    #[test]
    fn nothing_required_is_always_met() {
        let nothing = IsolationReport::default();
        assert_eq!(
            verdict(&[], &nothing, &NetworkReport::default(), None),
            Verdict::Met
        );
    }

    #[test]
    fn a_missing_layer_is_named_with_what_to_do() {
        let Verdict::Missing(text) = verdict(
            &[Layer::Seccomp, Layer::UserNamespace, Layer::RuntimeClass],
            &report(),
            &network(Reach::Blocked),
            None,
        ) else {
            panic!("two are missing");
        };
        assert!(
            text.contains("userNamespace (missing): use Kubernetes 1.33"),
            "{text}"
        );
        assert!(
            text.contains("runtimeClass (the cluster's default runtime): install gVisor"),
            "{text}"
        );
        assert!(!text.contains("seccomp"), "{text}");
    }

    #[test]
    fn an_open_network_is_missing_at_once_and_silence_is_waited_for() {
        assert_eq!(of_network(Reach::Blocked), Verdict::Met);
        assert_eq!(of_network(Reach::Pending), Verdict::Pending);
        assert!(matches!(of_network(Reach::Reachable), Verdict::Missing(_)));
        let open_while_pending = NetworkReport {
            metadata: Reach::Reachable,
            ..network(Reach::Pending)
        };
        let verdict = verdict(&[Layer::NetworkPolicy], &report(), &open_while_pending, None);
        assert!(matches!(verdict, Verdict::Missing(_)));
    }

    #[test]
    fn what_a_pool_rules_out_is_said_before_there_is_a_pod() {
        let both = [Layer::UserNamespace, Layer::RuntimeClass];
        assert_eq!(out_of_reach(&both, Some("gvisor"), None), None);
        assert_eq!(out_of_reach(&[], None, Some(true)), None);
        let text = out_of_reach(&both, None, Some(true)).expect("both are ruled out");
        assert!(
            text.contains("userNamespace (missing)") && text.contains("runtimeClass"),
            "{text}"
        );
    }

    #[test]
    fn what_can_not_be_found_out_counts_as_missing() {
        assert!(matches!(of_network(Reach::Unknown), Verdict::Missing(_)));
        let without = IsolationReport {
            landlock_abi: 0,
            ..report()
        };
        let verdict = verdict(&[Layer::Landlock], &without, &network(Reach::Pending), None);
        assert!(matches!(verdict, Verdict::Missing(_)));
    }

    #[test]
    fn a_later_look_never_forgets_what_an_earlier_one_knew() {
        assert_eq!(
            later(network(Reach::Blocked), NetworkReport::default()),
            network(Reach::Blocked)
        );
        assert_eq!(
            later(network(Reach::Pending), network(Reach::Reachable)),
            network(Reach::Reachable)
        );
    }
}
