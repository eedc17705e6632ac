//! The audit trail: one JSON line for each request and each execution, the same from both programs and both backends.
//!
//! ```text
//!   Request   ── the API server, when it is answered ──┐
//!   Execution ── the operator or local mode, at its end ├─▶ event of the target `audit` ──▶ layer ──▶ the log
//! ```
//!
//! The fields are described in docs/audit.md. No type here has room for a program, its output, an error's text or a
//! credential. Every text in a line is bounded, and every line is printable ASCII, so that nothing in a name or a
//! path can begin a line of its own or move a terminal's cursor.

mod execution;
mod layer;
mod line;
mod request;
mod text;

pub use self::execution::Execution;
pub use self::layer::layer;
pub use self::request::Request;
pub use self::text::{MAX_CHARS, Text};

/// The tracing target of audit lines, which stands in each of them.
pub const TARGET: &str = "audit";

/// A filter's directive for the rest of the log, which must not show audit lines again in its own format.
pub const OFF_ELSEWHERE: &str = "audit=off";
