//! What the end-to-end tests and the benchmark share.
//!
//! ```text
//!   Cluster    the installation under test: the Kubernetes API, and the project's own API over HTTP
//!   Program    one program, as an HTTP body and as a CodeExecution
//!   wait       the only place that sleeps: every wait has a bound and a name
//!   tools      kubectl, helm
//!   Witness    reads the logs of all executor Pods and counts which of them started a program
//!   pool       a pool of a test's own, and whether all its Pods are ready
//!   processes  the processes of Pods on this machine
//!   operator   who leads, where its process is, how it is brought back after a test hurt it
//!   audit      the audit trail, read in the logs of operator and API server
//!   events     an execution as the API tells of it while it goes on
//!   outage     the operator without the Kubernetes API
//!   bench      samples, floors and the report of `make bench`
//!   hostile    runs the hostile programs of `suite/`, wherever programs run
//! ```
//!
//! The tests themselves stand in `tests/`, one concern a file. `e2e/run` makes the cluster they need.

pub mod api;
pub mod audit;
pub mod bench;
pub mod cluster;
pub mod events;
pub mod hostile;
pub mod operator;
pub mod outage;
pub mod pool;
pub mod processes;
pub mod program;
pub mod tools;
pub mod wait;
pub mod witness;

pub use cluster::{Answer, Cluster};
pub use events::{Event, Events};
pub use pool::{Pool, PoolOf};
pub use program::{Program, unique};
pub use wait::wait_until;
pub use witness::Witness;
