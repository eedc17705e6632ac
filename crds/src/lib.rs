//! The resources of the API group `codeexec.dev/v1alpha1`.
//!
//! ```text
//!   CodeExecution  one program that somebody wants run: spec (immutable) and, once it ended, its result
//!   ExecutorPool   how the Pods look that run them; owned by the platform, named by users
//! ```
//!
//! The types here are the contract: the operator, the API server and the YAML in the chart are made of
//! them. `cargo run -p codeexec-crds --bin crdgen` writes that YAML; a test fails when it drifts.

// Each printer column of a `kube` attribute has a name, type and path of its own; the lint sees duplicates.
#![allow(clippy::duplicated_attributes)]

mod execution;
mod generate;
mod labels;
mod pool;
mod status;
mod summary;

pub use execution::{CodeExecution, CodeExecutionSpec, EnvVar, InputFile, Language};
pub use generate::{CrdFile, crd_files};
pub use labels::*;
pub use pool::{ExecutorPool, ExecutorPoolSpec, ExecutorPoolStatus, ReusePolicy, ReuseSpec};
pub use status::{
    CodeExecutionStatus, Isolation, NetworkIsolation, OutputBytes, Phase, Reachability, Reason, ResultFile,
    Timings, Truncated, Usage,
};
pub use summary::{StoredBytes, Summary};

/// Bounds of a CodeExecution, the same in the schema, in the API server's checks and in the operator's.
pub mod bounds {
    /// Longest code, in Unicode code points (the plan's row 8).
    pub const CODE_CHARS: usize = 10_000;
    /// Shortest and longest timeout in seconds; the longest is also the default.
    pub const TIMEOUT_SECONDS: std::ops::RangeInclusive<i32> = 1..=30;
    /// Longest standard input in bytes.
    pub const STDIN_BYTES: usize = 64 * 1024;
    /// Most arguments and most environment variables.
    pub const LIST_ITEMS: usize = 64;
    /// Longest name of an environment variable in bytes.
    pub const VARIABLE_BYTES: usize = 256;
    /// All arguments together in bytes; the same for the names and values of the environment.
    pub const LIST_BYTES: usize = 32 * 1024;
    /// Most input files.
    pub const FILES: usize = 32;
    /// All input files together in bytes of base64.
    pub const FILES_ENCODED_BYTES: usize = 256 * 1024;
    /// Longest path of an input file in bytes.
    pub const PATH_BYTES: usize = 255;
    /// Longest user or pool name in code points.
    pub const NAME_CHARS: usize = 253;
    /// Shortest time that a finished record is kept, in seconds.
    pub const TTL_SECONDS_MIN: i64 = 60;
    /// Time that a finished record is kept unless the spec says otherwise, in seconds.
    pub const TTL_SECONDS_DEFAULT: i64 = 86_400;
}
