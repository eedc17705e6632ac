//! The operator's processes: who leads, how one is hurt, how all are well again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::PATIENCE;
use crate::tools::{helm, kubectl};
use crate::{Cluster, wait_until};

/// Name of the Lease that the leading operator holds.
pub const LEASE: &str = "codeexec-operator";

/// How old the last renewal of a Lease that somebody holds may be: a third of its time, and a slow write.
const FRESH: Duration = Duration::from_secs(4);

/// The identity of the process that leads: its Pod's name and a suffix of its own.
///
/// # Errors
/// When nobody leads.
pub async fn leader(cluster: &Cluster) -> Result<String> {
    let holder = lease(cluster).await?.holder_identity.unwrap_or_default();
    if holder.is_empty() {
        bail!("nobody holds the Lease {LEASE}");
    }
    Ok(holder)
}

/// What the Lease says.
///
/// # Errors
/// When there is none, or the Kubernetes API does not answer.
pub async fn lease(cluster: &Cluster) -> Result<LeaseSpec> {
    let leases: Api<Lease> = cluster.beside_executions();
    Ok(leases.get(LEASE).await?.spec.unwrap_or_default())
}

/// Waits until another process leads than the one with this identity.
///
/// # Errors
/// When it still leads after `bound`.
pub async fn leader_other_than(cluster: &Cluster, identity: &str, bound: Duration) -> Result<String> {
    wait_until(
        &format!("another operator than {identity} leads"),
        bound,
        async || {
            // Between two leaders the Lease may have no holder.
            Ok(leader(cluster).await.ok().filter(|leader| leader != identity))
        },
    )
    .await
}

/// The operator's Pods.
///
/// # Errors
/// When the Kubernetes API does not answer.
pub async fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    component_pods(cluster, "operator").await
}

/// What the leader tells in its metrics.
///
/// # Errors
/// When nobody leads, or the leader does not answer.
pub async fn metrics(cluster: &Cluster) -> Result<String> {
    let leader = leader(cluster).await?;
    let pods = pods(cluster).await?;
    let pod = pods
        .iter()
        .find(|pod| leader.starts_with(&pod.name_any()))
        .context("the leader's Pod")?;
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}:8081/proxy/metrics",
        cluster.namespace,
        pod.name_any()
    );
    kubectl(&["get", "--raw", &path]).await
}

/// Sets values of the chart, each `name=JSON`, and waits until an operator that has them leads.
///
/// # Errors
/// When Helm refuses, or none does.
pub async fn set_values(cluster: &Cluster, values: &[String]) -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/codeexec");
    let chart = chart.to_string_lossy();
    let upgrade = ["upgrade", &cluster.release, &chart, "-n", &cluster.namespace];
    let mut arguments = [&upgrade[..], &["--reuse-values", "--wait"]].concat();
    for value in values {
        arguments.extend(["--set-json", value]);
    }
    helm(&arguments).await?;
    is_at_full_strength(cluster, "operator").await?;
    wait_until("one of the new Pods leads", PATIENCE, async || {
        let leader = leader(cluster).await.unwrap_or_default();
        let pods = pods(cluster).await?;
        Ok(pods
            .iter()
            .any(|pod| leader.starts_with(&pod.name_any()) && pod.metadata.deletion_timestamp.is_none())
            .then_some(()))
    })
    .await
}

/// The Pods of one component of the release, `operator` or `api`.
///
/// # Errors
/// When the Kubernetes API does not answer.
pub async fn component_pods(cluster: &Cluster, component: &str) -> Result<Vec<Pod>> {
    let selector = format!(
        "app.kubernetes.io/instance={},app.kubernetes.io/component={component}",
        cluster.release
    );
    let pods: Api<Pod> = cluster.beside_control();
    Ok(pods.list(&ListParams::default().labels(&selector)).await?.items)
}

/// The process of a Pod's container, where the cluster runs on this machine.
#[must_use]
pub fn process_in(pod_name: &str, program: &str) -> Option<i32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = command.split(|&byte| byte == 0).next()?;
        let is_program = command.ends_with(program.as_bytes());
        let in_pod = || environment_of(pid, "HOSTNAME").as_deref() == Some(pod_name);
        (is_program && in_pod()).then_some(pid)
    })
}

/// A variable in the environment of a process.
#[must_use]
pub fn environment_of(pid: i32, variable: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let begin = format!("{variable}=");
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables.find_map(|entry| entry.strip_prefix(begin.as_bytes()))?;
    String::from_utf8(value.to_vec()).ok()
}

/// The leading operator's identity and process; no process where the cluster runs elsewhere.
///
/// # Errors
/// When nobody leads.
pub async fn leading_process(cluster: &Cluster) -> Result<(String, Option<i32>)> {
    let identity = leader(cluster).await?;
    let pod = pods(cluster)
        .await?
        .into_iter()
        .find(|pod| identity.starts_with(&pod.name_any()));
    let pid = pod.and_then(|pod| process_in(&pod.name_any(), "codeexec-operator"));
    Ok((identity, pid))
}

/// Sends a signal to a process.
///
/// # Errors
/// When it is gone, or not ours to signal.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("not a process id")?;
    kill_process(pid, signal).with_context(|| format!("failed to signal process {pid:?}"))
}

/// Waits until a process of the operator leads, without helping it.
///
/// # Errors
/// When none does within this time.
pub async fn leads_again(cluster: &Cluster, within: Duration) -> Result<()> {
    wait_until("an operator renews the Lease", within, async || {
        let spec = lease(cluster).await?;
        let held = spec.holder_identity.is_some_and(|holder| !holder.is_empty());
        let renewed = spec.renew_time.map(|time| time.0);
        let fresh = renewed.is_some_and(|at| {
            let since = jiff::Timestamp::now().duration_since(at);
            since.unsigned_abs() < FRESH
        });
        Ok((held && fresh).then_some(()))
    })
    .await
}

/// Brings the operator back to its full strength after a test.
///
/// A Pod whose process died is replaced: the kubelet would start it again after a pause that doubles each
/// time, up to minutes.
///
/// # Errors
/// When it does not come back.
pub async fn heal(cluster: &Cluster) -> Result<()> {
    let api: Api<Pod> = cluster.beside_control();
    for pod in pods(cluster).await? {
        let statuses = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten());
        if statuses
            .into_iter()
            .any(|status| status.restart_count > 0 || !status.ready)
        {
            api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await?;
        }
    }
    is_at_full_strength(cluster, "operator").await?;
    wait_until("one of the operator's Pods leads", PATIENCE, async || {
        // After its holder died the Lease still names it until another one takes over.
        let Ok(leader) = leader(cluster).await else {
            return Ok(None);
        };
        let alive = pods(cluster).await?;
        Ok(alive
            .iter()
            .any(|pod| leader.starts_with(&pod.name_any()))
            .then_some(()))
    })
    .await
}

/// Waits until a component's Deployment has all its replicas ready, and nothing else.
///
/// # Errors
/// When that takes longer than a minute.
pub async fn is_at_full_strength(cluster: &Cluster, component: &str) -> Result<()> {
    let deployments: Api<Deployment> = cluster.beside_control();
    let name = format!("{}-{component}", cluster.release);
    wait_until(
        &format!("all replicas of {name} are ready"),
        PATIENCE,
        async || {
            let deployment = deployments.get(&name).await?;
            let wanted = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1);
            let observed = deployment.status.clone().unwrap_or_default();
            let whole = observed.observed_generation == deployment.metadata.generation
                && observed.ready_replicas == Some(wanted)
                && observed.updated_replicas == Some(wanted)
                && observed.replicas == Some(wanted);
            // The Deployment's status lags behind: a Pod that is gone for good counts there for a moment.
            let pods = component_pods(cluster, component).await?;
            let all_serve = pods.len() == usize::try_from(wanted)? && pods.iter().all(serves);
            Ok((whole && all_serve).then_some(()))
        },
    )
    .await
}

/// Whether a Pod is ready and stays.
fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref());
    let is_ready = conditions
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_none()
}
