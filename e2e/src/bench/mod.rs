//! The benchmark: how long an answer takes, beside the shortest time that it could take.
//!
//! ```text
//!   cold            POST /api/execute on the cluster, no Pod waiting for it
//!   local           POST /api/execute on a server in local mode
//!   floor.pod       a Pod as the operator makes them, but without our runner: create ─▶ first output
//!   floor.attached  code written to a Pod attached beforehand ─▶ its output
//!   floor.python    python3 -I -c 'print(1)', spawned by us
//!
//!   layers.cold     the runner under bubblewrap, with its request on standard input: spawned ─▶ result
//!   layers.warm     request written to a runner that is ready ─▶ its result
//!   bare.…          the same where none of the runner's own layers comes to be
//!
//!   floor.userns    floor.pod in a user namespace of its own; floor.hostns in the node's
//!   floor.runtime   floor.pod with the RuntimeClass of the pool; floor.plain without
//! ```
//!
//! One sample of each in turn, so that whatever else the machine does falls on all of them alike, and the
//! ratios and differences mean something on any machine. Times are the client's.

mod floors;
mod idle;
// Its filters are Linux's.
#[cfg(target_os = "linux")]
mod isolation;
mod local;
mod namespace;
mod report;
mod sampling;

pub use floors::{AttachedFloor, PodFloor, python_floor};
pub use idle::{Footprint, with_finished_executions};
#[cfg(target_os = "linux")]
pub use isolation::measure_isolation;
pub use local::LocalServer;
pub use namespace::BenchNamespace;
pub use report::{IsolationOverhead, PodCost, Report, Rounds, Samples};
pub use sampling::take_samples;
