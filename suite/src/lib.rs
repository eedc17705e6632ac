//! Programs with the outcome that each must have, whatever runs them. No I/O.
//!
//! ```text
//!   programs/*.yaml ── programs ──▶ Program ── spec, body ──▶ whatever runs it
//!                                      │                          │
//!                      generator ◀─────┤      Observed ◀──────────┘
//!                 (mixes of them)      └──────┬───┘
//!                                         complaints: empty when it went as it must
//! ```

mod expect;
pub mod generator;
mod observed;
mod parse;
mod program;

pub use expect::{Expect, Outcome, complaints};
pub use observed::Observed;
pub use parse::{SuiteError, programs};
pub use program::{Group, Program, Target};
