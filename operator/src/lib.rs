//! The operator: CodeExecutions in, Pods out, results back into the status.
//!
//! ```text
//!   watch (executions, Pods, pools)
//!        │ what is there
//!        ▼
//!   dispatcher ── one driver for each unfinished execution ──▶ step::next_step(observed) ─▶ Step
//!                      ▲                                                                      │
//!                      │ ready, started, output, result                                       ▼
//!                   session (attach stream of one Pod)                     create, attach, send, write, delete
//! ```
//!
//! [`step`], [`pod`] and [`observe`] are plain functions over plain data; everything that talks to Kubernetes
//! stands in [`driver`], [`session`], [`records`] and [`watch`], and decides nothing. Only the holder of the
//! Lease ([`lease`]) drives.

pub mod connection;
pub mod dispatcher;
pub mod driver;
pub mod etcd;
pub mod failpoints;
pub mod failures;
pub mod health;
pub mod images;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod operate;
pub mod pod;
pub mod pool;
pub mod records;
pub mod retention;
pub mod session;
pub mod settings;
pub mod step;
pub mod user_namespaces;
pub mod verify;
pub mod watch;
