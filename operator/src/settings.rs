//! The operator's settings: flags, `CODEEXEC_…` variables, and what they resolve to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use codeexec_execution::isolation::Layer;
use codeexec_policy::Policy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Turns CodeExecutions into Pods and their output into statuses.
#[derive(Clone, Debug, Parser)]
#[command(name = "codeexec-operator", version)]
pub struct Settings {
    /// Namespace of CodeExecutions, ExecutorPools, executor Pods and the Lease.
    #[arg(
        long,
        env = "CODEEXEC_EXECUTIONS_NAMESPACE",
        default_value = "codeexec-executions"
    )]
    pub executions_namespace: String,

    /// This replica's name in the Lease; each process adds a random suffix.
    #[arg(long, env = "CODEEXEC_IDENTITY", default_value_t = hostname())]
    pub identity: String,

    /// Name of the Lease of leader election.
    #[arg(long, env = "CODEEXEC_LEASE_NAME", default_value = "codeexec-operator")]
    pub lease_name: String,

    /// Seconds that a silent leader keeps the Lease; it is renewed every third of that.
    #[arg(long, env = "CODEEXEC_LEASE_SECONDS", default_value_t = 6, value_parser = clap::value_parser!(i32).range(3..=60))]
    pub lease_seconds: i32,

    /// Image of the executor Pods, where their pool names none.
    #[arg(long, env = "CODEEXEC_EXECUTOR_IMAGE")]
    pub executor_image: String,

    /// When the kubelet pulls it: Always, IfNotPresent or Never.
    #[arg(long, env = "CODEEXEC_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,

    /// Secrets in the executions' namespace to pull it with, separated by commas.
    #[arg(long, env = "CODEEXEC_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secrets: Vec<String>,

    /// Service account of the executor Pods: one that may do nothing.
    #[arg(
        long,
        env = "CODEEXEC_EXECUTOR_SERVICE_ACCOUNT",
        default_value = "codeexec-executor"
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
    #[arg(long, env = "CODEEXEC_RUNTIME_CLASS", value_parser = not_blank)]
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
    #[arg(long, env = "CODEEXEC_VCPU_SECOND_PRICE", default_value_t = 0.000_034_17, value_parser = price)]
    pub vcpu_second_price: f64,

    /// Traces of executions.
    #[command(flatten)]
    pub trace: codeexec_trace::TraceSettings,

    /// Address of the health endpoints.
    #[arg(long, env = "CODEEXEC_LISTEN", default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,

    /// Level (error, warn, info, debug, trace) or filter of the log.
    #[arg(long, env = "CODEEXEC_LOG_LEVEL", default_value = "info")]
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

fn not_blank(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("must not be blank".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => Err("must be a number that is not negative".to_owned()),
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

    #[test]
    fn a_wrong_setting_is_refused_by_name() {
        let refusal = |flag: &str, value: &str| {
            Settings::try_parse_from([
                "codeexec-operator",
                "--executor-image=x",
                &format!("{flag}={value}"),
            ])
            .expect_err("a wrong value")
            .to_string()
        };
        assert!(refusal("--lease-seconds", "0").contains("--lease-seconds"));
        assert!(refusal("--memory-limit", "lots").contains("--memory-limit"));
        let error = refusal("--isolation-require", "seccomp,selinux");
        assert!(
            error.contains("--isolation-require") && error.contains("selinux"),
            "{error}"
        );
        for (flag, value) in [
            ("--policy", "none"),
            ("--vcpu-second-price", "-1"),
            ("--max-output-bytes", "-1"),
            ("--max-record-bytes", "0"),
            ("--write-budget-bytes", "512Mi"),
            ("--write-budget-minutes", "0"),
            ("--otlp-endpoint", "https://collector"),
            ("--trace-ratio", "2"),
        ] {
            assert!(refusal(flag, value).contains(flag), "{flag}");
        }
    }
}
