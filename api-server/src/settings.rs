//! Flags and `CODEEXEC_…` variables, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use codeexec_execution::setting::{namespace, not_negative};
use codeexec_policy::Policy;
use tracing_subscriber::EnvFilter;

use crate::auth::settings::AuthSettings;
use crate::http::settings::HttpSettings;
use crate::limits::ledger::{MAX_QUOTA, Quota};

/// Runs untrusted Python for HTTP clients: POST /api/execute.
///
/// Every flag can also be given as the environment variable shown beside it.
#[derive(Clone, Debug, Parser)]
#[command(name = "codeexec-api", version, max_term_width = 110)]
pub struct Settings {
    /// What runs the programs: a cluster, or this machine
    #[arg(long, env = "CODEEXEC_BACKEND", value_enum, default_value = "kubernetes")]
    pub backend: BackendKind,

    /// Address to listen on [default: 0.0.0.0:8080, with the local backend 127.0.0.1:8080]
    #[arg(long, env = "CODEEXEC_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// A file with the server's certificate and those between it and its authority, PEM; with it, HTTPS is served
    #[arg(long, env = "CODEEXEC_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// A file with the certificate's private key, PEM
    #[arg(long, env = "CODEEXEC_TLS_KEY", value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Address of /metrics, or off [default: 0.0.0.0:8082, with the local backend off]
    #[arg(long, env = "CODEEXEC_METRICS_LISTEN", value_name = "ADDRESS:PORT", value_parser = address_or_off)]
    pub metrics_listen: Option<AddressOrOff>,

    /// vCPU-seconds of each calendar month that GET /api/usage bills nothing for
    #[arg(long, env = "CODEEXEC_FREE_VCPU_SECONDS", value_name = "SECONDS", default_value = "100000",
          value_parser = not_negative)]
    pub free_vcpu_seconds: f64,

    /// Price of a vCPU-second, for the cost in each answer; a program is reckoned to have one vCPU
    #[arg(long, env = "CODEEXEC_VCPU_SECOND_PRICE", value_name = "PRICE", help_heading = "Local backend",
          default_value = "0.00003417", value_parser = not_negative)]
    pub vcpu_second_price: f64,

    /// Traces of requests.
    #[command(flatten)]
    pub trace: codeexec_trace::TraceSettings,

    /// What is done about programs that import os, subprocess or sys, call eval, exec or compile, or name
    /// __import__: deny refuses them, warn runs them and says so in the answer, off does not look
    #[arg(long, env = "CODEEXEC_POLICY", value_name = "POLICY", default_value_t = Policy::Deny)]
    pub policy: Policy,

    /// Whether the API's description is served, at /api/openapi.json and, to read and try it, at /api/docs
    #[arg(long, env = "CODEEXEC_API_DOCS", value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    pub api_docs: bool,

    /// Whether a page to write programs on and run them is served, at /
    #[arg(long, env = "CODEEXEC_PLAYGROUND", value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    pub playground: bool,

    /// How long open requests may take after SIGTERM, in seconds
    #[arg(long, env = "CODEEXEC_SHUTDOWN_GRACE_SECONDS", value_name = "SECONDS", default_value = "45",
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub shutdown_grace_seconds: u64,

    /// How long an execution may wait for its turn, in seconds; with the cluster it must be the operator's
    #[arg(long, env = "CODEEXEC_QUEUE_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "60",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub queue_timeout_seconds: u64,

    /// Executions that a user may begin within any 60 seconds; 0 is without bound
    #[arg(long, env = "CODEEXEC_RATE_LIMIT", value_name = "NUMBER", default_value = "10",
          value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_QUOTA)))]
    pub rate_limit: u32,

    /// Executions of a user that may be under way at once; 0 is without bound [default: that of --rate-limit]
    #[arg(long, env = "CODEEXEC_MAX_CONCURRENT_PER_USER", value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_QUOTA)))]
    pub max_concurrent_per_user: Option<u32>,

    /// A level (error, warn, info, debug, trace) or a filter such as info,kube=debug
    #[arg(long, env = "CODEEXEC_LOG_LEVEL", value_name = "LEVEL", default_value = "info",
          value_parser = log_filter)]
    pub log_level: String,

    /// How log lines look [default: json, with the local backend text]
    #[arg(long, env = "CODEEXEC_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// Namespace in which the CodeExecutions are created
    #[arg(long, env = "CODEEXEC_EXECUTIONS_NAMESPACE", value_name = "NAME", help_heading = "Kubernetes backend",
          default_value = "codeexec-executions", value_parser = namespace)]
    pub executions_namespace: String,

    /// This replica's label on what it creates [default: $HOSTNAME, which is the Pod's name]
    #[arg(long, env = "CODEEXEC_REPLICA", value_name = "NAME", help_heading = "Kubernetes backend",
          value_parser = label_value)]
    pub replica: Option<String>,

    /// Deadline of each call to the Kubernetes API, in milliseconds
    #[arg(long, env = "CODEEXEC_KUBE_TIMEOUT_MS", value_name = "MS", help_heading = "Kubernetes backend",
          default_value = "5000", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub kube_timeout_ms: u64,

    /// The codeexec-runner executable [default: the one beside this executable]
    #[arg(
        long,
        env = "CODEEXEC_RUNNER",
        value_name = "PATH",
        help_heading = "Local backend"
    )]
    pub runner: Option<PathBuf>,

    /// The Python interpreter, 3.11 or newer
    #[arg(
        long,
        env = "CODEEXEC_PYTHON",
        value_name = "PATH",
        help_heading = "Local backend",
        default_value = "python3"
    )]
    pub python: PathBuf,

    /// Programs at once [default: number of cores]
    #[arg(long, env = "CODEEXEC_MAX_CONCURRENT", value_name = "NUMBER", help_heading = "Local backend",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_concurrent: Option<u16>,

    /// Memory of one program, in bytes
    #[arg(long, env = "CODEEXEC_MEMORY_LIMIT_BYTES", value_name = "BYTES", help_heading = "Local backend",
          default_value = "536870912", value_parser = clap::value_parser!(u64).range(67_108_864..))]
    pub memory_limit_bytes: u64,

    /// What holds a program's memory and processes: a cgroup of its own where one can be had, or the runner only
    #[arg(
        long,
        env = "CODEEXEC_CGROUP",
        value_enum,
        help_heading = "Local backend",
        default_value = "auto"
    )]
    pub cgroup: CgroupUse,

    /// Bounds of connections and requests, and headers for browsers.
    #[command(flatten)]
    pub http: HttpSettings,

    /// Who asks, and how it is found out.
    #[command(flatten)]
    pub auth: AuthSettings,
}

/// What runs the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// Pods of a cluster, by way of CodeExecutions
    Kubernetes,
    /// Processes of this machine, in bubblewrap
    Local,
}

/// Whether programs get cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupUse {
    /// Where the kernel gives some to this process
    Auto,
    /// Never
    Off,
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOrOff {
    /// There.
    Address(SocketAddr),
    /// Nowhere.
    Off,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line
    Json,
    /// For people
    Text,
}

impl Settings {
    /// The address to listen on. Local mode lets everybody in unless told otherwise, so it is not for the network.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| match self.backend {
            BackendKind::Kubernetes => SocketAddr::from(([0, 0, 0, 0], 8080)),
            BackendKind::Local => SocketAddr::from(([127, 0, 0, 1], 8080)),
        })
    }

    /// Where `/metrics` is served: apart from what clients can reach.
    #[must_use]
    pub fn metrics_listen(&self) -> Option<SocketAddr> {
        match (self.metrics_listen, self.backend) {
            (Some(AddressOrOff::Address(address)), _) => Some(address),
            (None, BackendKind::Kubernetes) => Some(SocketAddr::from(([0, 0, 0, 0], 8082))),
            (Some(AddressOrOff::Off), _) | (None, BackendKind::Local) => None,
        }
    }

    /// How log lines look.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or(match self.backend {
            BackendKind::Kubernetes => LogFormat::Json,
            BackendKind::Local => LogFormat::Text,
        })
    }

    /// This replica's label. A host's name that can't be a label is replaced by a random one: the label only
    /// has to differ between the replicas that run at once.
    #[must_use]
    pub fn replica(&self) -> String {
        let host = || {
            std::env::var("HOSTNAME")
                .ok()
                .and_then(|name| label_value(&name).ok())
        };
        let given = self.replica.clone().or_else(host);
        given.unwrap_or_else(|| crate::backend::new_id().replace("cex-", "api-"))
    }

    /// Programs at once.
    #[must_use]
    pub fn max_concurrent(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.max_concurrent.map_or_else(cores, usize::from)
    }

    /// What a user may do who has no quota of their own.
    #[must_use]
    pub fn quota(&self) -> Quota {
        Quota {
            per_minute: self.rate_limit,
            concurrent: self.max_concurrent_per_user.unwrap_or(self.rate_limit),
        }
    }

    /// The files with certificate and key, where HTTPS is served.
    #[must_use]
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        self.tls_cert.clone().zip(self.tls_key.clone())
    }

    /// How long open requests may take after SIGTERM.
    #[must_use]
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }

    /// How long an execution may wait for its turn.
    #[must_use]
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_secs(self.queue_timeout_seconds)
    }

    /// Deadline of each call to the Kubernetes API.
    #[must_use]
    pub fn kube_timeout(&self) -> Duration {
        Duration::from_millis(self.kube_timeout_ms)
    }
}

fn address_or_off(text: &str) -> Result<AddressOrOff, String> {
    match text {
        "off" => Ok(AddressOrOff::Off),
        _ => text
            .parse()
            .map(AddressOrOff::Address)
            .map_err(|_| "it is neither an address with a port nor off".to_owned()),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("it is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn label_value(text: &str) -> Result<String, String> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends_well = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let mut bytes = text.bytes();
    if text.len() > 63
        || !text.bytes().all(inside)
        || !ends_well(text.bytes().next())
        || !ends_well(bytes.next_back())
    {
        return Err("a label's value is 1 to 63 letters, digits and inner '-', '_', '.'".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Settings, String> {
        Settings::try_parse_from([&["codeexec-api"], flags].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn local_mode_listens_on_loopback_and_logs_text() {
        let local = parse(&["--backend", "local"]).unwrap();
        assert!(local.listen().ip().is_loopback());
        assert_eq!(local.log_format(), LogFormat::Text);
        assert_eq!(local.metrics_listen(), None);
        let kubernetes = parse(&[]).unwrap();
        assert_eq!(
            kubernetes.metrics_listen().map(|address| address.port()),
            Some(8082)
        );
        assert_eq!(
            parse(&["--metrics-listen", "off"]).unwrap().metrics_listen(),
            None
        );
        assert!(kubernetes.listen().ip().is_unspecified());
        assert_eq!(kubernetes.log_format(), LogFormat::Json);
    }

    /// A wrong value of each setting that has one.
    const WRONG: &[(&str, &str)] = &[
        ("--backend", "docker"),
        ("--listen", "8080"),
        ("--metrics-listen", "8082"),
        ("--otlp-endpoint", "https://collector"),
        ("--trace-ratio", "2"),
        ("--free-vcpu-seconds", "many"),
        ("--vcpu-second-price", "cheap"),
        ("--policy", "none"),
        ("--api-docs", "maybe"),
        ("--playground", "sometimes"),
        ("--max-connections", "1"),
        ("--max-streams", "0"),
        ("--idle-timeout-seconds", "0"),
        ("--header-limit-bytes", "100"),
        ("--body-limit-bytes", "0"),
        ("--body-timeout-seconds", "never"),
        ("--cors-origins", "example.com"),
        ("--hsts-seconds", "ever"),
        ("--shutdown-grace-seconds", "soon"),
        ("--queue-timeout-seconds", "0"),
        ("--rate-limit", "ten"),
        ("--rate-limit", "10001"),
        ("--max-concurrent-per-user", "many"),
        ("--executions-namespace", "Not A Namespace"),
        ("--replica", "x-"),
        ("--replica", ""),
        ("--kube-timeout-ms", "1"),
        ("--max-concurrent", "0"),
        ("--memory-limit-bytes", "1"),
        ("--cgroup", "v2"),
        ("--log-level", "info,=="),
        ("--log-format", "xml"),
        ("--auth", "password"),
        ("--admins", "anonymous"),
        ("--trusted-proxies", "10.0.0.0/33"),
        ("--api-keys-secret", "My Keys"),
        ("--token-audience", ""),
        ("--proxy-user-header", "x user"),
        ("--oidc-issuer", "http://login.example.com"),
        ("--oidc-audience", " "),
        ("--oidc-jwks-url", "keys"),
        ("--oidc-algorithms", "none"),
        ("--oidc-user-claim", ""),
        ("--oidc-leeway-seconds", "3600"),
    ];

    /// Any text is right before somebody uses it: what can't be opened stops the start by its name, too.
    const ANY_TEXT: &[&str] = &[
        "--tls-cert",
        "--tls-key",
        "--runner",
        "--python",
        "--api-keys-file",
        "--oidc-ca-file",
        "--oidc-user-prefix",
    ];

    #[test]
    fn a_wrong_setting_is_named() {
        for (flag, value) in WRONG {
            let error = parse(&[flag, value]).unwrap_err();
            assert!(error.contains(flag), "{flag}: {error}");
        }
        // Clap names the other one.
        assert!(parse(&["--tls-cert", "a.pem"]).unwrap_err().contains("--tls-key"));
        assert!(parse(&["--tls-key", "a.pem"]).unwrap_err().contains("--tls-cert"));
        assert!(parse(&["--no-such-flag"]).unwrap_err().contains("--no-such-flag"));
    }

    #[test]
    fn one_switch_lifts_both_bounds_of_a_user() {
        let quota = |flags: &[&str]| {
            let quota = parse(flags).unwrap().quota();
            (quota.per_minute, quota.concurrent)
        };
        assert_eq!(quota(&[]), (10, 10));
        assert_eq!(quota(&["--rate-limit", "0"]), (0, 0));
        assert_eq!(
            quota(&["--rate-limit", "0", "--max-concurrent-per-user", "3"]),
            (0, 3)
        );
        assert_eq!(quota(&["--max-concurrent-per-user", "0"]), (10, 0));
    }

    #[test]
    fn no_setting_is_without_a_wrong_value() {
        use clap::CommandFactory;
        for arg in Settings::command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let flag = format!("--{long}");
            let is_known = WRONG.iter().any(|(name, _)| *name == flag) || ANY_TEXT.contains(&flag.as_str());
            assert!(is_known || matches!(long, "help" | "version"), "{flag}");
        }
    }

    #[test]
    fn every_flag_has_the_variable_of_its_name() {
        use clap::CommandFactory;
        for arg in Settings::command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            if !matches!(long, "help" | "version") {
                let variable = format!("CODEEXEC_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(arg.get_env().unwrap(), variable.as_str());
            }
        }
    }
}
