//! What the operator and the API server both know of an execution, without any I/O.
//!
//! ```text
//!   CodeExecutionSpec ── validate ──▶ ok, or the field that breaks a bound
//!                     ── request  ──▶ the frame for the runner, with the output limits of budget
//!   End + Transcript  ── outcome  ──▶ CodeExecutionStatus
//!   runner's report   ── isolation ─▶ which layers are in force, and whether those that are required
//! ```
//!
//! `setting` checks settings that both have.

pub mod budget;
pub mod isolation;
pub mod metrics;
pub mod outcome;
mod request;
pub mod setting;
mod validate;

pub use request::runner_request;
pub use validate::{Violation, validate};

/// SHA-256 of a program's text in hex: how records name it without holding it.
#[must_use]
pub fn code_sha256(code: &str) -> String {
    use sha2::{Digest, Sha256};
    codeexec_runner::frames::hex(&Sha256::digest(code.as_bytes()))
}

/// The label value that stands for a user: user names may hold what labels can't, and labels are read widely.
#[must_use]
pub fn user_hash(user: &str) -> String {
    // 128 bits: no two users of an installation meet, and it stays below the 63 characters of a label.
    code_sha256(user)[..32].to_owned()
}
