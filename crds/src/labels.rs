//! Names of labels and annotations, and the values that the project writes into them.

/// Label of a CodeExecution: [hash](crate::CodeExecutionSpec::user) of its user, written by the creator or,
/// for one applied by hand, by the operator once it ended.
pub const LABEL_USER: &str = "codeexec.dev/user";
/// Label of a CodeExecution: the API server replica that created it and watches for its result.
pub const LABEL_REPLICA: &str = "codeexec.dev/replica";
/// Label of a finished CodeExecution: its phase, so that the operator lists finished records by metadata.
pub const LABEL_PHASE: &str = "codeexec.dev/phase";
/// Annotation of a finished CodeExecution: when its record goes, RFC 3339.
pub const ANNOTATION_EXPIRES_AT: &str = "codeexec.dev/expires-at";
/// Annotation of a finished CodeExecution: its [`Summary`](crate::Summary) in JSON.
pub const ANNOTATION_SUMMARY: &str = "codeexec.dev/summary";
/// Annotation of a CodeExecution that the API server made: when it did, RFC 3339 with milliseconds. Kubernetes
/// records a creation to the second.
pub const ANNOTATION_RECEIVED_AT: &str = "codeexec.dev/received-at";
/// Annotation of a CodeExecution that was asked for in a trace: the W3C `traceparent` of its request.
pub const ANNOTATION_TRACEPARENT: &str = "codeexec.dev/traceparent";
/// Annotation of a CodeExecution whose output somebody may read while it runs: the operator then writes at once that it
/// runs, and where.
pub const ANNOTATION_LIVE: &str = "codeexec.dev/live";
/// Label of an executor Pod: the uid of the one execution it serves.
pub const LABEL_EXECUTION: &str = "codeexec.dev/execution";
/// Label of an executor Pod: the ExecutorPool it was made from.
pub const LABEL_POOL: &str = "codeexec.dev/pool";
/// Label of an executor Pod that was made idle, for a pool: fingerprint of what it was made from.
pub const LABEL_TEMPLATE: &str = "codeexec.dev/template";
/// Annotation of an idle Pod: the operator's process that may claim it.
pub const ANNOTATION_OPERATOR: &str = "codeexec.dev/operator";
/// Annotation of an idle Pod: when it became ready, RFC 3339.
pub const ANNOTATION_READY_SINCE: &str = "codeexec.dev/ready-since";
/// Label of an executor Pod that serves no execution: what the operator finds out with it.
pub const LABEL_PROBE: &str = "codeexec.dev/probe";
/// The recommended label that says who manages an object; the operator watches Pods by it.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_MANAGED_BY`] on everything the operator makes.
pub const MANAGED_BY: &str = "codeexec-operator";
/// Name of the only container in an executor Pod.
pub const EXECUTOR_CONTAINER: &str = "executor";
