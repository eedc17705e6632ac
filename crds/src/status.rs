use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an execution went. Written by the operator, the result once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeExecutionStatus {
    /// Where it stands. Absent until the operator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The true cause of the phase it ended in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// True only where no byte of the program ran, so that running it again can't run it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// How many executions of its pool stand before it; 1 is the next. Absent once it left the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i32>,
    /// What the program's process exited with, 0 to 255. Absent when a signal ended it, or nothing ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the program's process, 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The first bytes of its standard output, up to the output limit; invalid UTF-8 as U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The first bytes of its standard error, which share the output limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// What went wrong: the traceback, or a sentence. Never empty when it failed, absent on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How much it printed, kept or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<OutputBytes>,
    /// Whether some of what it printed or left as files was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
    /// Files that it left in the folder `out` of its work directory (`/code/out`), in the order in which it finished
    /// them: at most 32, at most 1 MiB each, and together what its output leaves of the record's room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<ResultFile>>,
    /// SHA-256 of the code, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_sha256: Option<String>,
    /// The image that ran it, by digest where the container runtime reports one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The Pod that ran it, or is about to. A Pod of its own is named before the program can have started; one that stood
    /// ready, with `Running` or the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// The node of that Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Whether the Pod stood ready before the request came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<bool>,
    /// When the program started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the result was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Where the time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Which layers of isolation were in force while it ran, as the runner found them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// `Complete` is True once it ended in any way; wait for it with `kubectl wait --for=condition=Complete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Accepted; its program has not started.
    Queued,
    /// Its program runs.
    Running,
    /// Its program exited with 0.
    Succeeded,
    /// Its program failed, or could not be run.
    Failed,
    /// Its program was killed at its timeout.
    TimedOut,
    /// It was cancelled.
    Cancelled,
}

impl Phase {
    /// Every phase that an execution ends in.
    pub const TERMINAL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Cancelled];

    /// Whether the execution has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        Self::TERMINAL.contains(&self)
    }

    /// Its name as it stands in the resource.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::TimedOut => "TimedOut",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// The true cause of an execution's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// The program exited with 0.
    Completed,
    /// The program exited with another code.
    NonZeroExit,
    /// A signal ended the program.
    Signaled,
    /// The program reached its timeout.
    DeadlineExceeded,
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// Somebody cancelled it.
    Cancelled,
    /// Its spec breaks a bound or a policy; nothing ran.
    Rejected,
    /// The executor image could not be pulled within the queue's patience; nothing ran.
    ImagePull,
    /// No node had room within the queue's patience; nothing ran.
    Unschedulable,
    /// A quota of the namespace left no room within the queue's patience; nothing ran.
    QuotaExceeded,
    /// The node evicted the Pod.
    Evicted,
    /// Somebody deleted the Pod.
    PodDeleted,
    /// The node was lost.
    NodeLost,
    /// A required layer of isolation is missing; nothing ran.
    IsolationUnavailable,
    /// codeexec itself failed.
    InternalError,
}

impl Reason {
    /// Its name as it stands in the resource.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::NonZeroExit => "NonZeroExit",
            Self::Signaled => "Signaled",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::OutOfMemory => "OutOfMemory",
            Self::Cancelled => "Cancelled",
            Self::Rejected => "Rejected",
            Self::ImagePull => "ImagePull",
            Self::Unschedulable => "Unschedulable",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::Evicted => "Evicted",
            Self::PodDeleted => "PodDeleted",
            Self::NodeLost => "NodeLost",
            Self::IsolationUnavailable => "IsolationUnavailable",
            Self::InternalError => "InternalError",
        }
    }
}

/// Bytes that the program printed, kept or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputBytes {
    /// To its standard output.
    pub stdout: i64,
    /// To its standard error.
    pub stderr: i64,
}

/// Whether some of what the program printed or left as files was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Truncated {
    /// Of its standard output.
    pub stdout: bool,
    /// Of its standard error.
    pub stderr: bool,
    /// Of its result files: too many or too large, neither text nor PNG or JPEG, or no file that can be read.
    #[serde(default)]
    pub files: bool,
}

/// A file that the program left as a result. A picture it left open in matplotlib is one as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultFile {
    /// Its path below `/code/out`: at most 4 names and 255 bytes, no control characters.
    pub path: String,
    /// Its media type: `image/png`, `image/jpeg`, `image/svg+xml`, `text/csv`, `application/json` or `text/plain`, by
    /// its name as far as its content bears that out.
    pub mime_type: String,
    /// Its bytes, in base64.
    pub content: String,
}

/// Where the time went, each in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// From its creation (to the second, as Kubernetes records it) until the operator took it up.
    pub queue_ms: i64,
    /// Until a Pod for it was ready; 0 for a warm one.
    pub start_ms: i64,
    /// From the ready Pod to the program's start.
    pub claim_ms: i64,
    /// The program itself, by the runner's monotonic clock.
    pub run_ms: i64,
    /// From the program's end until its result was read.
    pub collect_ms: i64,
    /// From the operator's first sight of it until its result was read.
    pub total_ms: i64,
}

/// What the program used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time of the program and its children in milliseconds.
    pub cpu_ms: i64,
    /// Most memory resident at once in one of its processes, in bytes.
    pub peak_memory_bytes: i64,
    /// The CPU it was given times the time it ran: what a per-vCPU price is charged on, in seconds.
    pub vcpu_seconds: f64,
    /// `vcpuSeconds` times the operator's configured price, in the price's currency.
    pub cost: f64,
}

/// Which layers of isolation were in force. What could not be found out counts as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Isolation {
    /// The Pod's RuntimeClass; absent for the cluster's default runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Whether the Pod had a user namespace of its own, read from /proc/self/uid_map.
    pub user_namespace: bool,
    /// Whether the program ran under the runner's system-call filter.
    pub seccomp: bool,
    /// The Landlock ABI that was enforced; 0 where the kernel has none.
    pub landlock_abi: i32,
    /// Whether privileges could no longer be gained through execve.
    pub no_new_privileges: bool,
    /// What the Pod could reach over the network, apart from the program's own filter.
    pub network: NetworkIsolation,
}

/// What the Pod's network let through when the runner tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkIsolation {
    /// The Kubernetes API's Service address.
    pub kubernetes_api: Reachability,
    /// The cloud's metadata address, 169.254.169.254.
    pub metadata: Reachability,
    /// The cluster's DNS.
    pub dns: Reachability,
}

/// Whether a target answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// It was refused or dropped.
    Blocked,
    /// It answered.
    Reachable,
    /// Not known by the time the result was made, or not tried.
    #[default]
    Unknown,
}
