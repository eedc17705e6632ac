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
//!   warm            POST /api/execute on a pool whose Pods are all ready; it must get one of them
//!   warm_refilling  the same while the pool makes a Pod in place of one that was used
//!   warm_pandas     a program that prints a data frame, on a pool with the default modules imported
//!   live            a program begun and followed on such a pool: to the first byte of its output
//!   floor.warm      floor.attached, in turn with these
//!   burst8          8 requests at once on a full pool of 8: to the last answer; burst16 twice as many
//!
//!   sustained       executions a second of 4 clients without pause, on a pool of 8
//!   pods            Pods like that of floor.pod a second, 4 at once
//!   …_preload       the same where each Pod imports the default modules, and the program uses them
//!   sustained_reuse the same executions, of one user whom each Pod serves again
//!
//!   api.full        POST /api/execute on a server before a backend that answers at once, everything on
//!   api.bare        the same where everything is off; api_requests: requests a second with everything on
//!
//!   floor.userns    floor.pod in a user namespace of its own; floor.hostns in the node's
//!   floor.runtime   floor.pod with the RuntimeClass of the pool; floor.plain without
//! ```
//!
//! One sample of each in turn, so that whatever else the machine does falls on all of them alike, and the
//! ratios and differences mean something on any machine. Times are the client's.
//!
//! ```text
//!   sections   what is measured: sampling, warm, burst, sustained, isolation, api, idle
//!   floors     bare Pods and interpreters; namespace is where these Pods live
//!   pool       a pool whose Pods are kept ready
//!   report     from samples to the table and report.json; targets, stages and plot are parts of it
//! ```

mod api;
mod burst;
mod floors;
mod idle;
// Its filters are Linux's.
#[cfg(target_os = "linux")]
mod isolation;
mod local;
mod namespace;
mod plot;
mod pool;
mod report;
mod sampling;
mod sections;
mod stages;
mod sustained;
mod targets;
mod warm;

pub use api::{COMMAND as API_SERVER, measure_api, serve as serve_api};
pub use burst::measure_bursts;
pub use floors::{AttachedFloor, PodFloor, python_floor};
pub use idle::{Footprint, with_finished_executions};
#[cfg(target_os = "linux")]
pub use isolation::measure_isolation;
pub use local::LocalServer;
pub use namespace::BenchNamespace;
pub use plot::svg;
pub use pool::{PoolKind, WarmPool};
pub use report::{IsolationOverhead, PodCost, Rate, Report, Rounds, Samples, Summary};
pub use sampling::take_samples;
pub use sections::{Section, Sections};
pub use stages::Stages;
pub use sustained::measure_sustained;
pub use warm::measure_warm;
