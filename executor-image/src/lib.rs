//! The frames between a runner and its supervisor, and what they add up to.
//!
//! ```text
//!   supervisor ── hello, request ──▶ runner (PID 1) ──▶ sandboxed python
//!              ◀── ready, started, output…, result ──
//! ```

pub mod encoding;
pub mod exit;
pub mod frames;
mod printed;
mod transcript;

pub use printed::Printed;
pub use transcript::Transcript;
