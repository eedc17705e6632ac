//! Everything that speaks HTTP.

pub mod answer;
pub mod body;
pub mod error;
pub mod execute;
pub mod health;
pub mod log;
pub mod measure;
pub mod trace;
pub mod usage;
