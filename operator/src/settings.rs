//! The operator's settings: flags, `CODEEXEC_…` variables, and what they resolve to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use codeexec_execution::isolation::Layer;
use codeexec_execution::setting::{namespace, not_blank, not_negative, object_name};
use codeexec_policy::Policy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tracing_subscriber::EnvFilter;

/// Turns CodeExecutions into Pods and their output into statuses.
#[derive(Clone, Debug, Parser)]
#[command(name = "codeexec-operator", version)]
pub struct Settings {
    /// Namespace of CodeExecutions, ExecutorPools, executor Pods and the Lease.
    #[arg(
        long,
        env = "CODEEXEC_EXECUTIONS_NAMESPACE",
        default_value = "codeexec-executions",
        value_parser = namespace
    )]
    pub executions_namespace: String,

    /// This replica's name in the Lease; each process adds a random suffix.
    #[arg(long, env = "CODEEXEC_IDENTITY", default_value_t = hostname(), value_parser = not_blank)]
    pub identity: String,

    /// Name of the Lease of leader election.
    #[arg(long, env = "CODEEXEC_LEASE_NAME", default_value = "codeexec-operator", value_parser = object_name)]
    pub lease_name: String,

    /// Seconds that a silent leader keeps the Lease; it is renewed every third of that.
    #[arg(long, env = "CODEEXEC_LEASE_SECONDS", default_value_t = 6, value_parser = clap::value_parser!(i32).range(3..=60))]
    pub lease_seconds: i32,

    /// Image of the executor Pods, where their pool names none.
    #[arg(long, env = "CODEEXEC_EXECUTOR_IMAGE", value_parser = not_blank)]
    pub executor_image: String,

    /// When the kubelet pulls it: Always, IfNotPresent or Never.
    #[arg(long, env = "CODEEXEC_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,

    /// Secrets in the executions' namespace to pull it with, separated by commas.
    #[arg(long, env = "CODEEXEC_IMAGE_PULL_SECRETS", value_delimiter = ',', value_parser = object_name)]
    pub image_pull_secrets: Vec<String>,

    /// Service account of the executor Pods: one that may do nothing.
    #[arg(
        long,
        env = "CODEEXEC_EXECUTOR_SERVICE_ACCOUNT",
        default_value = "codeexec-executor",
        value_parser = object_name
    )]
    pub executor_service_account: String,

    /// CPU limit of an executor Pod.
    #[arg(long, env = "CODEEXEC_CPU_LIMIT", default_value = "500m", value_parser = quantity)]
    pub cpu_limit: String,

    /// Memory limit of an executor Pod; its memory-backed folders count toward it.
    #[arg(long, env = "CODEEXEC_MEMORY_LIMIT", default_value = "512Mi", value_parser = quantity)]
    pub memory_limit: String,

    /// CPU request of an executor Pod.
    #[arg(long, env = "CODEEXEC_CPU_REQUEST", default_value = "50m", value_parser = quantity)]
    pub cpu_request: String,

    /// Memory request of an executor Pod.
    #[arg(long, env = "CODEEXEC_MEMORY_REQUEST", default_value = "128Mi", value_parser = quantity)]
    pub memory_request: String,

    /// Limit of an executor Pod's log and other node storage.
    #[arg(long, env = "CODEEXEC_EPHEMERAL_STORAGE_LIMIT", default_value = "64Mi", value_parser = quantity)]
    pub ephemeral_storage_limit: String,

    /// Size of a volume for what programs write. Unset they have the 64 MiB of the container's own /dev/shm,
    /// which costs no volume: the kubelet takes 0.3 s longer to start a Pod that has one.
    #[arg(long, env = "CODEEXEC_SCRATCH_SIZE", value_parser = quantity)]
    pub scratch_size: Option<String>,

    /// User and group id of the executor Pods; 0 leaves both to the cluster, as OpenShift wants it.
    #[arg(long, env = "CODEEXEC_RUN_AS", default_value_t = 1000, value_parser = clap::value_parser!(i64).range(0..=65_535))]
    pub run_as: i64,

    /// RuntimeClass of the executor Pods, where their pool names none.
    #[arg(long, env = "CODEEXEC_RUNTIME_CLASS", value_parser = object_name)]
    pub runtime_class: Option<String>,

    /// false asks for a user namespace for each executor Pod, true for none. Unset, the operator finds out with a
    /// Pod of its own whether the cluster gives them, and asks for them where it does.
    #[arg(long, env = "CODEEXEC_HOST_USERS")]
    pub host_users: Option<bool>,

    /// Layers of isolation without which nothing runs, separated by commas: seccomp, landlock, userNamespace,
    /// networkPolicy, runtimeClass.
    #[arg(long, env = "CODEEXEC_ISOLATION_REQUIRE", value_delimiter = ',')]
    pub isolation_require: Vec<Layer>,

    /// What is done about programs that import os, subprocess or sys, call eval, exec or compile, or name __import__:
    /// deny ends them as Rejected, warn runs them and writes a log line, off does not look.
    #[arg(long, env = "CODEEXEC_POLICY", default_value_t = Policy::Deny)]
    pub policy: Policy,

    /// Address of the cluster's DNS, for the report on what executor Pods can reach. Unset: this process's own
    /// name server.
    #[arg(long, env = "CODEEXEC_PROBE_DNS")]
    pub probe_dns: Option<IpAddr>,

    /// Seconds that an execution may wait for a Pod before it fails with what held it up.
    #[arg(long, env = "CODEEXEC_QUEUE_TIMEOUT_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub queue_timeout_seconds: u32,

    /// Finished records kept at most; the oldest go first.
    #[arg(long, env = "CODEEXEC_MAX_FINISHED", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_finished: u32,

    /// Bytes of outputs that finished records keep beyond their first KiB; the oldest are cut first.
    #[arg(long, env = "CODEEXEC_MAX_OUTPUT_BYTES", default_value_t = 256 << 20)]
    pub max_output_bytes: u64,

    /// Bytes that finished records take without those outputs, specs included; the oldest records go first.
    #[arg(long, env = "CODEEXEC_MAX_RECORD_BYTES", default_value_t = 384 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..))]
    pub max_record_bytes: u64,

    /// Bytes that may be written to etcd before outputs are cut to their first and last 64 KiB.
    #[arg(long, env = "CODEEXEC_WRITE_BUDGET_BYTES", default_value_t = 512 << 20, value_parser = clap::value_parser!(u64).range(8 << 20..=1 << 40))]
    pub write_budget_bytes: u64,

    /// Minutes in which a budget that was used up is whole again: how long etcd may keep what was overwritten.
    #[arg(long, env = "CODEEXEC_WRITE_BUDGET_MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub write_budget_minutes: u32,

    /// Price of a vCPU-second, for the cost in each status.
    #[arg(long, env = "CODEEXEC_VCPU_SECOND_PRICE", default_value_t = 0.000_034_17, value_parser = not_negative)]
    pub vcpu_second_price: f64,

    /// Traces of executions.
    #[command(flatten)]
    pub trace: codeexec_trace::TraceSettings,

    /// Address of the health endpoints.
    #[arg(long, env = "CODEEXEC_LISTEN", default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,

    /// Level (error, warn, info, debug, trace) or filter of the log.
    #[arg(long, env = "CODEEXEC_LOG_LEVEL", default_value = "info", value_parser = log_filter)]
    pub log_level: String,

    /// Format of the log.
    #[arg(long, env = "CODEEXEC_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Settings {
    /// Fills in what is found on this machine.
    #[must_use]
    pub fn with_own_name_server(self) -> Self {
        let own = || first_name_server(&std::fs::read_to_string("/etc/resolv.conf").ok()?);
        Self {
            probe_dns: self.probe_dns.or_else(own),
            ..self
        }
    }

    /// The time in which the write budget fills up.
    #[must_use]
    pub fn write_budget_window(&self) -> Duration {
        Duration::from_secs(u64::from(self.write_budget_minutes) * 60)
    }

    /// How long an execution may wait for a Pod.
    #[must_use]
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.queue_timeout_seconds))
    }
}

fn first_name_server(resolv_conf: &str) -> Option<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .find_map(|address| address.trim().parse().ok())
}

fn hostname() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "codeexec-operator".to_owned())
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("it must not be blank".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn quantity(text: &str) -> Result<String, String> {
    match parse_quantity(&Quantity(text.to_owned())) {
        Some(value) if value > 0.0 => Ok(text.to_owned()),
        _ => Err("must be a positive Kubernetes quantity such as 500m or 512Mi".to_owned()),
    }
}

/// The value of a quantity, or nothing if it is not one.
#[must_use]
pub fn parse_quantity(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    let digits_end = text
        .find(|character: char| !(character.is_ascii_digit() || matches!(character, '.' | '-' | '+')))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return text.parse().ok(), // 1e3 and the like
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        use clap::CommandFactory;
        Settings::command().debug_assert();
    }

    #[test]
    fn quantities_parse_as_kubernetes_means_them() {
        let value = |text: &str| parse_quantity(&Quantity(text.to_owned()));
        assert_eq!(value("500m"), Some(0.5));
        assert_eq!(value("512Mi"), Some(512.0 * 1024.0 * 1024.0));
        assert_eq!(value("2"), Some(2.0));
        assert_eq!(value("1e3"), Some(1000.0));
        assert_eq!(value("many"), None);
    }

    #[test]
    fn the_first_name_server_is_the_cluster_s() {
        let file = "search svc.cluster.local\n# none\nnameserver fe80::1%eth0\nnameserver 10.96.0.10\n";
        assert_eq!(first_name_server(file), "10.96.0.10".parse().ok());
        assert_eq!(first_name_server(""), None);
    }

    /// A wrong value of each setting.
    const WRONG: &[(&str, &str)] = &[
        ("--executions-namespace", "Not A Namespace"),
        ("--identity", " "),
        ("--lease-name", "The Lease"),
        ("--lease-seconds", "0"),
        ("--executor-image", ""),
        ("--image-pull-policy", "Sometimes"),
        ("--image-pull-secrets", "good,Not Good"),
        ("--executor-service-account", "x_y"),
        ("--cpu-limit", "0"),
        ("--memory-limit", "lots"),
        ("--cpu-request", "-1"),
        ("--memory-request", "128 MB"),
        ("--ephemeral-storage-limit", "none"),
        ("--scratch-size", ""),
        ("--run-as", "root"),
        ("--runtime-class", "g Visor"),
        ("--host-users", "maybe"),
        ("--isolation-require", "seccomp,selinux"),
        ("--probe-dns", "kube-dns"),
        ("--queue-timeout-seconds", "0"),
        ("--max-finished", "0"),
        ("--max-output-bytes", "-1"),
        ("--max-record-bytes", "0"),
        ("--write-budget-bytes", "512Mi"),
        ("--write-budget-minutes", "0"),
        ("--policy", "none"),
        ("--vcpu-second-price", "-1"),
        ("--otlp-endpoint", "https://collector"),
        ("--trace-ratio", "2"),
        ("--listen", "8081"),
        ("--log-level", "info,=="),
        ("--log-format", "xml"),
    ];

    #[test]
    fn a_wrong_setting_is_refused_by_name() {
        for (flag, value) in WRONG {
            let mut arguments = vec!["codeexec-operator".to_owned(), format!("{flag}={value}")];
            if *flag != "--executor-image" {
                arguments.push("--executor-image=x".to_owned());
            }
            let error = Settings::try_parse_from(arguments).expect_err("a wrong value");
            let error = error.to_string();
            assert!(error.contains(flag), "{flag}: {error}");
        }
    }

    #[test]
    fn no_setting_is_without_a_wrong_value() {
        use clap::CommandFactory;
        for arg in Settings::command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let is_known = WRONG.iter().any(|(flag, _)| *flag == format!("--{long}"));
            assert!(is_known || matches!(long, "help" | "version"), "--{long}");
        }
    }
}
