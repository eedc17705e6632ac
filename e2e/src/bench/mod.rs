//! The benchmark: how long an answer takes, beside the shortest time that it could take.
//!
//! ```text
//!   cold            POST /api/execute on the cluster, no Pod waiting for it
//!   local           POST /api/execute on a server in local mode
//!   floor.pod       a Pod as the operator makes them, but without our runner: create ─▶ first output
//!   floor.attached  code written to a Pod attached beforehand ─▶ its output
//!   floor.python    python3 -I -c 'print(1)', spawned by us
//! ```
//!
//! One sample of each in turn, so that whatever else the machine does falls on all of them alike, and the
//! ratios mean something on any machine. Times are the client's.

mod floors;
mod idle;
mod local;
mod report;
mod sampling;

pub use floors::{AttachedFloor, PodFloor, python_floor};
pub use idle::{Footprint, with_finished_executions};
pub use local::LocalServer;
pub use report::{Report, Samples};
pub use sampling::take_samples;
