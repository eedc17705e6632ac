//! Everything that speaks HTTP.

pub mod answer;
pub mod body;
pub mod codes;
pub mod docs;
pub mod error;
pub mod execute;
pub mod executions;
pub mod health;
pub mod idempotency;
pub mod log;
pub mod measure;
pub mod policy;
pub mod query;
pub mod rate;
pub mod submit;
pub mod trace;
pub mod usage;
