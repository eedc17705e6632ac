//! From an execution, its pool and the settings to the Pod that runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use codeexec_crds::{
    ANNOTATION_OPERATOR, CodeExecution, EXECUTOR_CONTAINER, ExecutorPool, ExecutorPoolSpec, LABEL_EXECUTION,
    LABEL_MANAGED_BY, LABEL_POOL, LABEL_PROBE, LABEL_TEMPLATE, MANAGED_BY, bounds,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, Pod, PodDNSConfig,
    PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::settings::{Settings, parse_quantity};

/// Time that the runner gets, beyond the program's own, to report before the kubelet ends the Pod.
pub const REPORT_SECONDS: i64 = 5;

/// Seconds between SIGTERM and SIGKILL: the runner answers SIGTERM with the result so far.
pub const GRACE_SECONDS: u32 = 2;

/// How long the runner stays after its result, in milliseconds: about twice what the operator takes to write it
/// down. While the node took the container down beside it, that write took 13 ms on two cores instead of 6.
const LINGER_MS: u32 = 50;

/// How long a Pod that is too old may take to be replaced.
const REPLACEMENT_SECONDS: i64 = 600;

/// Hexadecimal digits of a fingerprint.
const FINGERPRINT: usize = 16;

/// Name of the volume for what programs write, where there is one.
const SCRATCH: &str = "scratch";

/// A Pod as it should be, not yet known to the API server.
#[derive(Clone, Debug)]
pub struct PreparedPod(Pod);

impl PreparedPod {
    /// The Pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    /// The object to send.
    #[must_use]
    pub fn object(&self) -> &Pod {
        &self.0
    }
}

/// Name of the Pod that runs an execution. The same for whoever asks, so that two operators can't make two;
/// attempts after the first are those of a Pod that provably never got the request.
#[must_use]
pub fn name(uid: &str, attempt: u32) -> String {
    if attempt == 0 {
        format!("exec-{uid}")
    } else {
        format!("exec-{uid}-{attempt}")
    }
}

/// The attempt that a Pod's name says.
#[must_use]
pub fn attempt(uid: &str, name: &str) -> Option<u32> {
    let rest = name.strip_prefix("exec-")?.strip_prefix(uid)?;
    if rest.is_empty() {
        Some(0)
    } else {
        rest.strip_prefix('-')?.parse().ok()
    }
}

/// CPUs that a Pod of this pool may use.
#[must_use]
pub fn vcpus(settings: &Settings, pool: &ExecutorPoolSpec) -> f64 {
    let limits = resources(settings, pool).limits.unwrap_or_default();
    limits.get("cpu").and_then(parse_quantity).unwrap_or(1.0)
}

/// What all Pods of a pool have in common.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The pool.
    pub pool: &'a ExecutorPoolSpec,
    /// false asks for a user namespace of the Pod's own; nothing leaves it to the cluster.
    pub host_users: Option<bool>,
}

impl Template<'_> {
    /// The Pod for one execution.
    #[must_use]
    pub fn for_execution(&self, execution: &CodeExecution, attempt: u32) -> PreparedPod {
        let uid = execution.metadata.uid.clone().unwrap_or_default();
        let life = self.settings.queue_timeout()
            + Duration::from_secs(execution.spec.timeout_seconds.unsigned_abs().into());
        let own = [
            (LABEL_POOL, label_value(&execution.spec.pool)),
            (LABEL_EXECUTION, uid.clone()),
        ];
        let metadata = ObjectMeta {
            name: Some(name(&uid, attempt)),
            labels: Some(labels(own)),
            owner_references: execution.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        // The longest that the Pod may live before its request reaches it; lowered then, for it can't be raised.
        let deadline = i64::try_from(life.as_secs())
            .unwrap_or(i64::MAX)
            .saturating_add(REPORT_SECONDS);
        self.prepared(metadata, deadline)
    }

    /// An idle Pod of a pool, for whatever execution comes, that `holder` may claim.
    #[must_use]
    pub fn for_pool(&self, pool: &ExecutorPool, name: &str, holder: &str) -> PreparedPod {
        let pool_name = pool.name_any();
        let own = [
            (LABEL_POOL, label_value(&pool_name)),
            (LABEL_TEMPLATE, self.fingerprint()),
        ];
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels(own)),
            annotations: Some([(ANNOTATION_OPERATOR.to_owned(), holder.to_owned())].into()),
            owner_references: pool.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        self.warm(self.prepared(metadata, self.idle_deadline()))
    }

    /// Tells Pods of different specs apart. Whether there are user namespaces is found out, and no reason to
    /// replace a Pod.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let asked = Template {
            host_users: self.pool.host_users.or(self.settings.host_users),
            ..*self
        };
        let prepared = asked.warm(asked.prepared(ObjectMeta::default(), self.idle_deadline()));
        // A spec is plain data: serde_json can't refuse it.
        let spec = serde_json::to_string(&prepared.0.spec).unwrap_or_default();
        codeexec_execution::code_sha256(&spec)[..FINGERPRINT].to_owned()
    }

    /// The longest life of an idle Pod: until it is too old, until it is replaced then, and until the last
    /// execution that it may get has ended.
    fn idle_deadline(&self) -> i64 {
        let last = i64::from(*bounds::TIMEOUT_SECONDS.end());
        self.pool.max_idle_seconds.max(1) + REPLACEMENT_SECONDS + last + REPORT_SECONDS
    }

    /// Makes a Pod import the pool's modules.
    fn warm(&self, mut prepared: PreparedPod) -> PreparedPod {
        let modules = self.pool.modules().join(",");
        let containers = prepared.0.spec.iter_mut().flat_map(|spec| &mut spec.containers);
        for container in containers {
            let env = container.env.get_or_insert_default();
            env.push(variable("CODEEXEC_PRELOAD", modules.clone()));
        }
        prepared
    }

    /// A Pod that runs no execution: what its runner reports is all that is wanted of it.
    #[must_use]
    pub fn for_probe(&self, name: &str, life: Duration) -> PreparedPod {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels([(LABEL_PROBE, "user-namespaces".to_owned())])),
            ..ObjectMeta::default()
        };
        self.prepared(metadata, i64::try_from(life.as_secs()).unwrap_or(i64::MAX))
    }

    fn prepared(&self, metadata: ObjectMeta, deadline: i64) -> PreparedPod {
        PreparedPod(Pod {
            metadata,
            spec: Some(PodSpec {
                host_users: self.host_users,
                ..spec(self.settings, self.pool, deadline)
            }),
            status: None,
        })
    }
}

fn labels<const N: usize>(own: [(&str, String); N]) -> BTreeMap<String, String> {
    let common = [
        (LABEL_MANAGED_BY, MANAGED_BY.to_owned()),
        ("app.kubernetes.io/name", "codeexec-executor".to_owned()),
    ];
    common
        .into_iter()
        .chain(own)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The deadline of a Pod that has lived for `age` when its program starts, in seconds since the Pod's start.
#[must_use]
pub fn lowered_deadline(age: Duration, timeout_seconds: i32) -> i64 {
    let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX).saturating_add(1);
    age.saturating_add(i64::from(timeout_seconds))
        .saturating_add(REPORT_SECONDS)
}

fn spec(settings: &Settings, pool: &ExecutorPoolSpec, deadline: i64) -> PodSpec {
    let secrets: Vec<_> = settings
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    PodSpec {
        active_deadline_seconds: Some(deadline),
        automount_service_account_token: Some(false),
        containers: vec![container(settings, pool)],
        // The Pod has no network to ask over; a resolver that can't answer fails at once.
        dns_policy: Some("None".to_owned()),
        dns_config: Some(PodDNSConfig {
            nameservers: Some(vec!["127.0.0.1".to_owned()]),
            ..PodDNSConfig::default()
        }),
        enable_service_links: Some(false),
        // Without it the Pod's name, which is the execution's, would be the program's hostname.
        hostname: Some("codeexec".to_owned()),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        node_selector: pool.node_selector.clone(),
        priority_class_name: pool.priority_class_name.clone(),
        restart_policy: Some("Never".to_owned()),
        runtime_class_name: pool
            .runtime_class_name
            .clone()
            .or_else(|| settings.runtime_class.clone()),
        security_context: Some(pod_security(settings)),
        service_account_name: Some(settings.executor_service_account.clone()),
        termination_grace_period_seconds: Some(GRACE_SECONDS.into()),
        tolerations: pool.tolerations.clone(),
        volumes: settings
            .scratch_size
            .as_deref()
            .map(|size| vec![memory_volume(SCRATCH, size)]),
        ..PodSpec::default()
    }
}

fn container(settings: &Settings, pool: &ExecutorPoolSpec) -> Container {
    Container {
        name: EXECUTOR_CONTAINER.to_owned(),
        image: Some(
            pool.image
                .clone()
                .unwrap_or_else(|| settings.executor_image.clone()),
        ),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        // For the runner alone: nothing of its environment reaches the program.
        env: Some(
            settings
                .probe_dns
                .map(|address| variable("CODEEXEC_PROBE_DNS", address.to_string()))
                .into_iter()
                .chain([variable("CODEEXEC_LINGER_MS", LINGER_MS.to_string())])
                .collect(),
        ),
        resources: Some(resources(settings, pool)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        stdin: Some(true),
        // A stream that was lost can be attached again.
        stdin_once: Some(false),
        // The image's /code and /tmp are links into it.
        volume_mounts: settings
            .scratch_size
            .as_ref()
            .map(|_| vec![mount(SCRATCH, "/dev/shm")]),
        ..Container::default()
    }
}

fn variable(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }
}

fn pod_security(settings: &Settings) -> PodSecurityContext {
    let id = (settings.run_as != 0).then_some(settings.run_as);
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: id,
        run_as_group: id,
        fs_group: id,
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

fn resources(settings: &Settings, pool: &ExecutorPoolSpec) -> ResourceRequirements {
    let own = pool.resources.clone().unwrap_or_default();
    let merge = |own: Option<BTreeMap<String, Quantity>>, defaults: [(&str, &String); 3]| {
        let mut merged: BTreeMap<String, Quantity> = defaults
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Quantity(value.clone())))
            .collect();
        merged.extend(own.unwrap_or_default());
        Some(merged)
    };
    let limits = merge(
        own.limits,
        [
            ("cpu", &settings.cpu_limit),
            ("memory", &settings.memory_limit),
            ("ephemeral-storage", &settings.ephemeral_storage_limit),
        ],
    );
    let requests = merge(
        own.requests,
        [
            ("cpu", &settings.cpu_request),
            ("memory", &settings.memory_request),
            ("ephemeral-storage", &settings.ephemeral_storage_limit),
        ],
    );
    ResourceRequirements {
        limits,
        requests,
        claims: None,
    }
}

fn memory_volume(name: &str, size: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(size.to_owned())),
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// A pool's name as a label: labels are shorter than names may be.
pub(crate) fn label_value(name: &str) -> String {
    name.chars().take(63).collect()
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
