//! Pools: idle Pods that are kept ready, and the turns of the executions that want one.
//!
//! ```text
//!   keeper ──creates, replaces, deletes──▶ idle Pods ──ready──┐
//!   driver ──enter──▶ queue ──turn: a ready Pod, or leave to start one──▶ driver ──claim, or create──▶
//! ```
//!
//! Everything here is this process's own view, under one lock that is never held over an await. What keeps two
//! processes from one Pod is the claim, which the Kubernetes API decides.

mod idle;
pub mod keeper;
mod place;
mod plan;
mod queue;
pub mod report;
mod returning;
mod state;
mod status;
mod used;

pub use idle::WarmPod;
pub use place::{Place, Refused, Turn};
pub use state::{ComingBack, Pools, Wish};
pub use used::Reuse;
