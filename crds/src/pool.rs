use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the Pods look that run executions. Users name a pool and set nothing of its Pods.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "codeexec.dev",
    version = "v1alpha1",
    kind = "ExecutorPool",
    plural = "executorpools",
    shortname = "xpool",
    category = "codeexec",
    namespaced,
    status = "ExecutorPoolStatus",
    derive = "PartialEq",
    doc = "The executor Pods of one kind: their image, resources and placement.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Claimed", type_ = "integer", json_path = ".status.claimed"),
    printcolumn(name = "Queued", type_ = "integer", json_path = ".status.queued"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorPoolSpec {
    /// How many idle Pods are kept ready, 0 to 500. With 0 every execution starts a Pod of its own. Each takes its
    /// request of memory and CPU for as long as it waits.
    #[serde(default)]
    #[schemars(range(min = 0, max = 500), default)]
    pub replicas: i32,

    /// The executor image. Empty means the operator's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image: Option<String>,

    /// Resources of each Pod. What is absent comes from the operator's settings (limits 500m and 512Mi).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Modules that an idle Pod imports, inside its sandbox, before it counts as ready: at most 64. Absent means
    /// numpy, pandas and matplotlib.pyplot; an empty list means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub preload: Option<Vec<String>>,

    /// RuntimeClass of the Pods, such as `gvisor` or `kata`. Absent means the operator's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,

    /// false gives each Pod a user namespace of its own. Absent means the operator's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_users: Option<bool>,

    /// Labels of the nodes that may run the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints that the Pods tolerate: at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub tolerations: Option<Vec<Toleration>>,

    /// PriorityClass of the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,

    /// The longest that a Pod waits idle before it is replaced, in seconds, 60 to 86400.
    #[serde(default = "default_max_idle")]
    #[schemars(range(min = 60, max = 86_400), default = "default_max_idle")]
    pub max_idle_seconds: i64,

    /// Most executions at once; absent means no bound of the pool's own. At least 1. More than that wait, one of
    /// each user in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrent: Option<i32>,

    /// Most executions that wait for their turn, at least 0. Further ones end at once as QuotaExceeded, which the
    /// HTTP API answers with 503 and Retry-After.
    #[serde(default = "default_queue_limit")]
    #[schemars(range(min = 0), default = "default_queue_limit")]
    pub queue_limit: i32,

    /// Whether a Pod may serve more than one execution, of one user only. Absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<ReuseSpec>,
}

/// Whether, and how far, a Pod serves more than one execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReuseSpec {
    /// Whose executions may follow each other in one Pod.
    #[serde(default)]
    #[schemars(default)]
    pub policy: ReusePolicy,
    /// How long a used Pod waits for its user's next execution, in seconds, 1 to 3600. Absent means 60. No more of
    /// them wait than the pool has replicas, and at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub idle_seconds: Option<i64>,
    /// After how many executions a Pod goes, 1 to 1000. Absent means 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max_executions: Option<i32>,
}

/// Whose executions may follow each other in one Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReusePolicy {
    /// Nobody's: one Pod, one execution.
    #[default]
    Never,
    /// The same user's.
    SameUser,
}

/// How a pool stands. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorPoolStatus {
    /// Idle Pods that exist, ready or not.
    #[serde(default)]
    pub replicas: i32,
    /// Idle Pods that would take a request at once.
    #[serde(default)]
    pub ready: i32,
    /// Pods that serve an execution.
    #[serde(default)]
    pub claimed: i32,
    /// Executions that wait.
    #[serde(default)]
    pub queued: i32,
    /// Label selector of its idle Pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Why it is short, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// Which layers of isolation its Pods last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<crate::Isolation>,
}

impl ExecutorPoolSpec {
    /// `queueLimit` of a pool that sets none, and of `default` where it does not exist.
    pub const DEFAULT_QUEUE_LIMIT: i32 = 100;

    /// `preload` of a pool that sets none.
    pub const DEFAULT_PRELOAD: [&str; 3] = ["numpy", "pandas", "matplotlib.pyplot"];

    /// The modules that its idle Pods import.
    #[must_use]
    pub fn modules(&self) -> Vec<&str> {
        match &self.preload {
            Some(modules) => modules.iter().map(String::as_str).collect(),
            None => Self::DEFAULT_PRELOAD.to_vec(),
        }
    }
}

fn default_max_idle() -> i64 {
    3_600
}

fn default_queue_limit() -> i32 {
    ExecutorPoolSpec::DEFAULT_QUEUE_LIMIT
}
