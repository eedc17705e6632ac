//! Runs the suite of hostile programs, and programs generated of them, and looks at what came of each.
//!
//! ```text
//!   RunnerAlone  the runner under bubblewrap, with the machine's network ─┐
//!   LocalMode    the API server in local mode                             ├── Place ◀── suite, fuzz
//!   OnCluster    an installed chart                                       ┘
//! ```
//!
//! After every program, wherever it ran: its end is the expected one, the result is the runner's own and whole,
//! it came in time, the next program works, and nothing of this one is left running.

mod fuzz;
mod harness;
mod http;
mod processes;
mod python;
mod runner;

pub use fuzz::fuzz;
pub use harness::{Place, Ran, Tally, suite};
pub use http::{LocalMode, OnCluster};
pub use runner::RunnerAlone;
