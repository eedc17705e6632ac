//! The API server: `POST /api/execute`, on a cluster or on a laptop.
//!
//! ```text
//!   http::body ── bytes → spec ──▶ execution::validate ──▶ limits ──▶ backend ──▶ CodeExecutionStatus
//!                                                                       │                  │
//!                                kubernetes: a CodeExecution and its watch                 ▼
//!                                local: bubblewrap and a runner             http::answer ── status → answer
//! ```
//!
//! Before all of it stands `auth`, which says who asks.
//!
//! What reads input and what makes answers holds no client and does no I/O; the two backends stand behind one
//! trait, so that everything a client can see is the same on both.

pub mod app;
pub mod auth;
pub mod backend;
pub mod files;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod server;
pub mod settings;
pub mod tls;
pub mod usage;
