//! What the project's own processes take while nothing is asked of them.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use codeexec_crds::{
    ANNOTATION_EXPIRES_AT, CodeExecution, CodeExecutionStatus, LABEL_PHASE, OutputBytes, Phase, Reason,
    Truncated,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::cluster::PATIENCE;
use crate::wait::for_as_long_as;
use crate::{Cluster, Program, operator, unique, wait_until};

/// Label of the records made here.
const LABEL: &str = "codeexec.dev/bench";

/// What a process has done after its start counts as starting, not as idling.
const SETTLE: Duration = Duration::from_secs(15);

/// Time over which the CPU is measured.
const WINDOW: Duration = Duration::from_secs(30);

/// Ticks of /proc/PID/stat: a constant of Linux's interface to programs, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process.
#[derive(Clone, Debug, Serialize)]
pub struct Footprint {
    /// Its Pod.
    process: String,
    /// Resident memory in MB.
    resident_mb: f64,
    /// CPU time it took, in percent of one core.
    cpu_percent: f64,
}

impl fmt::Display for Footprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            resident_mb,
            cpu_percent,
        } = self;
        let verdict = if *resident_mb < 40.0 && *cpu_percent < 1.0 {
            "met"
        } else {
            "MISSED"
        };
        write!(
            formatter,
            "{process}: {resident_mb:.1} MB resident, {cpu_percent:.2} % of a core idle (targets 40, 1: {verdict})"
        )
    }
}

/// Measures operator and API server beside `count` finished executions, which it makes and removes.
///
/// The records are written while the operator is away: it would run them otherwise.
///
/// # Errors
/// When Kubernetes refuses something.
pub async fn with_finished_executions(cluster: &Cluster, count: usize) -> Result<Vec<Footprint>> {
    let label = unique("bench");
    let replicas = scale_operator(cluster, 0).await?;
    let made = make_records(cluster, &label, count).await;
    scale_operator(cluster, replicas).await?;
    made?;
    operator::is_at_full_strength(cluster, "operator").await?;
    for_as_long_as(SETTLE).await;
    let footprints = measure(cluster).await;

    let ours = ListParams::default().labels(&format!("{LABEL}={label}"));
    cluster
        .executions()
        .delete_collection(&DeleteParams::default(), &ours)
        .await?;
    footprints
}

/// Returns how many replicas there were.
async fn scale_operator(cluster: &Cluster, replicas: i32) -> Result<i32> {
    let deployments: Api<Deployment> = cluster.beside_control();
    let name = format!("{}-operator", cluster.release);
    // A scale of 0 has no such field.
    let before = deployments
        .get_scale(&name)
        .await?
        .spec
        .and_then(|scale| scale.replicas);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments
        .patch_scale(&name, &PatchParams::default(), &patch)
        .await?;
    wait_until("the operator has its replicas", PATIENCE, async || {
        let pods = operator::pods(cluster).await?;
        Ok((i32::try_from(pods.len()) == Ok(replicas)).then_some(()))
    })
    .await?;
    Ok(before.unwrap_or(0))
}

async fn make_records(cluster: &Cluster, label: &str, count: usize) -> Result<()> {
    stream::iter(0..count)
        .map(Ok)
        .try_for_each_concurrent(8, |_| async move {
            let executions = cluster.executions();
            let record = executions.create(&PostParams::default(), &record(label)).await?;
            let status = Patch::Merge(json!({"status": finished()}));
            executions
                .patch_status(&record.name_any(), &PatchParams::default(), &status)
                .await?;
            anyhow::Ok(())
        })
        .await
}

fn record(label: &str) -> CodeExecution {
    let expires = Timestamp::now() + SignedDuration::from_hours(1);
    let mut record = Program::new("for i in range(100):\n    print('a line of output', i)")
        .annotation(ANNOTATION_EXPIRES_AT, expires.to_string())
        .resource(&unique("finished"));
    record.labels_mut().insert(LABEL.to_owned(), label.to_owned());
    record
        .labels_mut()
        .insert(LABEL_PHASE.to_owned(), Phase::Succeeded.as_str().to_owned());
    record
}

fn finished() -> CodeExecutionStatus {
    let output: String = (0..100).map(|i| format!("a line of output {i}\n")).collect();
    CodeExecutionStatus {
        phase: Some(Phase::Succeeded),
        reason: Some(Reason::Completed),
        retryable: Some(false),
        exit_code: Some(0),
        output_bytes: Some(OutputBytes {
            stdout: i64::try_from(output.len()).unwrap_or(0),
            stderr: 0,
        }),
        truncated: Some(Truncated::default()),
        output: Some(output),
        ..CodeExecutionStatus::default()
    }
}

async fn measure(cluster: &Cluster) -> Result<Vec<Footprint>> {
    let mut processes = Vec::new();
    for component in ["operator", "api"] {
        for pod in operator::component_pods(cluster, component).await? {
            let name = pod.name_any();
            // None where the cluster runs on other machines.
            if let Some(pid) = operator::process_in(&name, &format!("codeexec-{component}")) {
                processes.push((name, pid));
            }
        }
    }
    let before = processes
        .iter()
        .map(|(_, pid)| cpu_seconds(*pid))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    for_as_long_as(WINDOW).await;
    let window = began.elapsed().as_secs_f64();
    processes
        .into_iter()
        .zip(before)
        .map(|((process, pid), before)| {
            Ok(Footprint {
                process,
                resident_mb: (resident_mb(pid)? * 10.0).round() / 10.0,
                cpu_percent: ((cpu_seconds(pid)? - before) / window * 10_000.0).round() / 100.0,
            })
        })
        .collect()
}

fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, and may hold spaces; user and system time are the 14th and 15th.
    let after_name = stat.rsplit_once(')').context("a stat line")?.1;
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// Memory of a process that really is in memory, in MB.
pub(super) fn resident_mb(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("a VmRSS")?;
    let kib: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_measured() -> Result<()> {
        let pid = i32::try_from(std::process::id())?;
        assert!(resident_mb(pid)? > 0.5);
        assert!(cpu_seconds(pid)? < 3600.0);
        Ok(())
    }
}
