//! The line of an execution.

use codeexec_crds::{CodeExecutionSpec, CodeExecutionStatus, Phase, Reason};
use codeexec_execution::code_sha256;
use codeexec_execution::isolation::word;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::{Text, layer, line};

/// What stands in place of a phase where the record was deleted before there was a result.
const DELETED: &str = "Deleted";

/// An execution and how it ended. What is not known is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Execution {
    execution: Option<Text>,
    uid: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<Text>,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_sha256: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_digest: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Text>,
    #[serde(flatten)]
    isolation: Option<Isolation>,
    #[serde(flatten)]
    timings: Option<Timings>,
    #[serde(flatten)]
    output: Option<Output>,
    #[serde(flatten)]
    usage: Option<Usage>,
}

#[derive(Clone, Debug, Serialize)]
struct Isolation {
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_class: Option<Text>,
    user_namespace: bool,
    seccomp: bool,
    landlock_abi: i32,
    no_new_privileges: bool,
    network_kubernetes_api: &'static str,
    network_metadata: &'static str,
    network_dns: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Timings {
    queue_ms: i64,
    start_ms: i64,
    claim_ms: i64,
    run_ms: i64,
    collect_ms: i64,
    total_ms: i64,
}

#[derive(Clone, Debug, Serialize)]
struct Output {
    stdout_bytes: i64,
    stderr_bytes: i64,
}

#[derive(Clone, Debug, Serialize)]
struct Usage {
    cpu_ms: i64,
    peak_memory_bytes: i64,
    vcpu_seconds: f64,
    cost: f64,
}

impl Execution {
    /// One that ended as its status says.
    #[must_use]
    pub fn ended(name: &str, uid: &str, spec: &CodeExecutionSpec, status: &CodeExecutionStatus) -> Self {
        let code = status
            .code_sha256
            .clone()
            .unwrap_or_else(|| code_sha256(&spec.code));
        Self {
            user: Some(spec.user.as_str().into()),
            pool: Some(spec.pool.as_str().into()),
            phase: status.phase.map_or("", Phase::as_str),
            reason: status.reason.map(Reason::as_str),
            retryable: status.retryable,
            exit_code: status.exit_code,
            signal: status.signal,
            code_sha256: Some(code.into()),
            image_digest: text(status.image_digest.as_ref()),
            pod: text(status.pod_name.as_ref()),
            node: text(status.node_name.as_ref()),
            warm: status.warm,
            started_at: time(status.start_time.as_ref()),
            ended_at: time(status.completion_time.as_ref()),
            isolation: status.isolation.as_ref().map(Isolation::of),
            timings: status.timings.as_ref().map(Timings::of),
            output: status.output_bytes.map(|bytes| Output {
                stdout_bytes: bytes.stdout,
                stderr_bytes: bytes.stderr,
            }),
            usage: status.usage.map(|usage| Usage {
                cpu_ms: usage.cpu_ms,
                peak_memory_bytes: usage.peak_memory_bytes,
                vcpu_seconds: usage.vcpu_seconds,
                cost: usage.cost,
            }),
            ..Self::named(name, uid)
        }
    }

    /// One whose record was deleted before there was a result. If it ran, it was killed.
    #[must_use]
    pub fn deleted(name: &str, uid: &str, spec: &CodeExecutionSpec) -> Self {
        Self {
            user: Some(spec.user.as_str().into()),
            pool: Some(spec.pool.as_str().into()),
            phase: DELETED,
            code_sha256: Some(code_sha256(&spec.code).into()),
            ..Self::named(name, uid)
        }
    }

    /// One that was rejected because its resource can't be read, so that little is known of it.
    #[must_use]
    pub fn unreadable(name: &str, uid: &str) -> Self {
        Self {
            phase: Phase::Failed.as_str(),
            reason: Some(Reason::Rejected.as_str()),
            retryable: Some(false),
            ..Self::named(name, uid)
        }
    }

    fn named(name: &str, uid: &str) -> Self {
        Self {
            execution: Some(name.into()),
            uid: Some(uid.into()),
            ..Self::default()
        }
    }

    /// The same, with the image's digest, which may become known after the result.
    #[must_use]
    pub fn with_image_digest(self, digest: &str) -> Self {
        Self {
            image_digest: Some(digest.into()),
            ..self
        }
    }

    /// Writes the line.
    pub fn write(&self) {
        layer::emit(&line::line("execution", self));
    }
}

fn text(value: Option<&String>) -> Option<Text> {
    value.map(|value| value.as_str().into())
}

fn time(value: Option<&Time>) -> Option<Text> {
    value.map(|time| format!("{:.3}", time.0).into())
}

impl Isolation {
    fn of(isolation: &codeexec_crds::Isolation) -> Self {
        let network = isolation.network;
        Self {
            runtime_class: text(isolation.runtime_class.as_ref()),
            user_namespace: isolation.user_namespace,
            seccomp: isolation.seccomp,
            landlock_abi: isolation.landlock_abi,
            no_new_privileges: isolation.no_new_privileges,
            network_kubernetes_api: word(network.kubernetes_api),
            network_metadata: word(network.metadata),
            network_dns: word(network.dns),
        }
    }
}

impl Timings {
    fn of(timings: &codeexec_crds::Timings) -> Self {
        Self {
            queue_ms: timings.queue_ms,
            start_ms: timings.start_ms,
            claim_ms: timings.claim_ms,
            run_ms: timings.run_ms,
            collect_ms: timings.collect_ms,
            total_ms: timings.total_ms,
        }
    }
}
