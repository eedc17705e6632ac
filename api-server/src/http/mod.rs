//! Everything that speaks HTTP.

pub mod answer;
pub mod body;
pub mod codes;
pub mod cors;
pub mod docs;
pub mod drain;
pub mod error;
pub mod events;
pub mod execute;
pub mod executions;
pub mod headers;
pub mod health;
pub mod idempotency;
pub mod listen;
pub mod log;
pub mod measure;
pub mod playground;
pub mod policy;
pub mod query;
pub mod rate;
pub mod receive;
pub mod settings;
pub mod streams;
pub mod submit;
pub mod trace;
pub mod usage;
