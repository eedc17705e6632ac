use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CodeExecutionStatus, bounds};

/// One program to run, once, in isolation. Immutable once created, but for `cancel`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "codeexec.dev",
    version = "v1alpha1",
    kind = "CodeExecution",
    plural = "codeexecutions",
    shortname = "cex",
    category = "codeexec",
    namespaced,
    status = "CodeExecutionStatus",
    derive = "PartialEq",
    doc = "One untrusted program, run once in a Pod of its own; its result is the status.",
    selectable = ".status.phase",
    selectable = ".spec.user",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Exit", type_ = "integer", json_path = ".status.exitCode"),
    printcolumn(
        name = "Time",
        type_ = "integer",
        json_path = ".status.timings.runMs",
        description = "Milliseconds the program itself ran"
    ),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".status.podName", priority = 1),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName", priority = 1),
    printcolumn(name = "Warm", type_ = "boolean", json_path = ".status.warm", priority = 1)
)]
#[serde(rename_all = "camelCase")]
// Field by field: one rule over the whole spec is refused as too costly, and names no field.
#[x_kube(
    validation = Rule::new("self.code == oldSelf.code").message("code is immutable").field_path(".code"),
    validation = Rule::new("self.language == oldSelf.language").message("language is immutable").field_path(".language"),
    validation = Rule::new("self.timeoutSeconds == oldSelf.timeoutSeconds").message("timeoutSeconds is immutable").field_path(".timeoutSeconds"),
    validation = Rule::new("self.user == oldSelf.user").message("user is immutable").field_path(".user"),
    validation = Rule::new("self.pool == oldSelf.pool").message("pool is immutable").field_path(".pool"),
    validation = Rule::new("has(self.stdin) == has(oldSelf.stdin) && (!has(self.stdin) || self.stdin == oldSelf.stdin)").message("stdin is immutable"),
    validation = Rule::new("has(self.args) == has(oldSelf.args) && (!has(self.args) || self.args == oldSelf.args)").message("args is immutable"),
    validation = Rule::new("has(self.env) == has(oldSelf.env) && (!has(self.env) || self.env == oldSelf.env)").message("env is immutable"),
    validation = Rule::new("has(self.files) == has(oldSelf.files) && (!has(self.files) || self.files == oldSelf.files)").message("files is immutable"),
    validation = Rule::new("self.ttlSecondsAfterFinished == oldSelf.ttlSecondsAfterFinished").message("ttlSecondsAfterFinished is immutable").field_path(".ttlSecondsAfterFinished"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("cancel can be set, but not taken back").field_path(".cancel")
)]
pub struct CodeExecutionSpec {
    /// The program's text: 1 to 10000 characters (Unicode code points), not only white space.
    #[schemars(length(min = 1, max = 10_000))]
    #[x_kube(validation = Rule::new("self.trim() != ''").message("code must not be blank"))]
    pub code: String,

    /// The program's language.
    #[serde(default)]
    #[schemars(default)]
    pub language: Language,

    /// How long the program may run, in whole seconds, 1 to 30. Counted by a monotonic clock from the
    /// moment its first line may run; time to start the Pod is not charged to it.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 30), default = "default_timeout")]
    pub timeout_seconds: i32,

    /// Who asked for it. The API server writes its authenticated user here.
    #[serde(default = "default_user")]
    #[schemars(length(min = 1, max = 253), default = "default_user")]
    pub user: String,

    /// The ExecutorPool, in the same namespace, whose Pods run it.
    #[serde(default = "default_pool")]
    #[schemars(length(min = 1, max = 253), default = "default_pool")]
    pub pool: String,

    /// What the program reads from its standard input: at most 64 KiB. Without it, reading meets end of file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    #[x_kube(validation = Rule::new("size(bytes(self)) <= 65536").message("stdin must be at most 65536 bytes"))]
    pub stdin: Option<String>,

    /// Arguments, in `sys.argv[1:]`: at most 64, 32 KiB in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 32_768)))]
    #[x_kube(validation = Rule::new("self.map(a, size(bytes(a))).sum() <= 32768").message("args must be at most 32768 bytes in all"))]
    pub args: Option<Vec<String>>,

    /// Environment variables, in `os.environ`: at most 64, names and values 32 KiB in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.map(e, size(bytes(e.name)) + size(bytes(e.value))).sum() <= 32768").message("env must be at most 32768 bytes in all"))]
    pub env: Option<Vec<EnvVar>>,

    /// Files written below the work directory before the program starts: at most 32, 256 KiB of base64 in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    #[x_kube(validation = Rule::new("self.map(f, size(f.content)).sum() <= 262144").message("files must be at most 262144 bytes of base64 in all"))]
    pub files: Option<Vec<InputFile>>,

    /// Set to true to end it: before it started it never runs, a running one is killed. Can't be taken back.
    #[serde(default)]
    #[schemars(default)]
    pub cancel: bool,

    /// How long the record is kept once it has ended, in seconds, at least 60.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 60), default = "default_ttl")]
    pub ttl_seconds_after_finished: i64,
}

/// A language that programs may be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Python, at the version of the pool's image.
    #[default]
    Python,
}

/// An environment variable of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// Its name: letters, digits and `_`, not beginning with a digit.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value; no NUL in it.
    #[schemars(length(max = 32_768))]
    pub value: String,
}

/// A file that the program finds in its work directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct InputFile {
    /// Where it stands, relative to the work directory: no leading `/`, no empty, `.` or `..` segment, at most 255 bytes.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("size(bytes(self)) <= 255 && !self.split('/').exists(p, p == '' || p == '.' || p == '..')").message("path must stay below the work directory"))]
    pub path: String,
    /// Its bytes, in base64.
    #[schemars(length(max = 262_144), regex(pattern = "^[A-Za-z0-9+/]*={0,2}$"))]
    pub content: String,
}

fn default_timeout() -> i32 {
    *bounds::TIMEOUT_SECONDS.end()
}

fn default_user() -> String {
    "anonymous".to_owned()
}

fn default_pool() -> String {
    "default".to_owned()
}

fn default_ttl() -> i64 {
    bounds::TTL_SECONDS_DEFAULT
}

impl CodeExecutionSpec {
    /// A spec with the given code and every other field at its default.
    #[must_use]
    pub fn python(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            timeout_seconds: default_timeout(),
            user: default_user(),
            pool: default_pool(),
            ttl_seconds_after_finished: default_ttl(),
            ..Self::default()
        }
    }
}
