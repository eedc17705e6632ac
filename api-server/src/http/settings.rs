//! Settings of what speaks HTTP: its bounds, and who may call it from a browser.

use std::time::Duration;

use clap::Args;

use super::cors::{self, Origins};
use super::listen::Bounds;

/// Bounds of connections and requests, and headers for browsers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Connections at once; beyond that a request is answered with 503
    #[arg(long, env = "CODEEXEC_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "2048",
          value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub max_connections: u32,

    /// Clients that may follow executions at once (`/api/executions/{id}/events`); beyond that one is answered with 503
    #[arg(long, env = "CODEEXEC_MAX_STREAMS", value_name = "NUMBER", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_streams: u32,

    /// How long a connection may take to the end of its next request's headers, in seconds
    // More than the 60 s for which nginx and most load balancers keep one: who closes first is the proxy, then.
    #[arg(long, env = "CODEEXEC_IDLE_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "75",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_timeout_seconds: u64,

    /// Longest first line and headers of a request, in bytes
    // What nginx takes, too.
    #[arg(long, env = "CODEEXEC_HEADER_LIMIT_BYTES", value_name = "BYTES", default_value = "32768",
          value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    pub header_limit_bytes: u32,

    /// Largest request body, in bytes
    #[arg(long, env = "CODEEXEC_BODY_LIMIT_BYTES", value_name = "BYTES", default_value = "2097152",
          value_parser = clap::value_parser!(u32).range(1024..=67_108_864))]
    pub body_limit_bytes: u32,

    /// How long a request's body may take, in seconds
    #[arg(long, env = "CODEEXEC_BODY_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub body_timeout_seconds: u64,

    /// Origins whose pages may call the API from a browser (`https://app.example.com`), separated by commas, or *
    /// for all [default: none]
    #[arg(long, env = "CODEEXEC_CORS_ORIGINS", value_name = "ORIGINS", default_value = "", hide_default_value = true,
          value_parser = cors::origins)]
    pub cors_origins: Origins,

    /// For how long browsers are told to come by HTTPS only, in seconds; 0 tells them nothing
    #[arg(long, env = "CODEEXEC_HSTS_SECONDS", value_name = "SECONDS", default_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=63_072_000))]
    pub hsts_seconds: u32,
}

impl HttpSettings {
    /// Bounds of the connections.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            connections: self.max_connections as usize,
            idle: Duration::from_secs(self.idle_timeout_seconds),
            head_bytes: self.header_limit_bytes as usize,
        }
    }

    /// How long a request's body may take.
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds)
    }
}
