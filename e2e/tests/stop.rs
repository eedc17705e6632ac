//! Cancelling and deleting: the program's Pod stops within two seconds.
//!
//! Times are measured here, so nothing else runs beside these tests.

use std::time::{Duration, Instant};

use anyhow::Result;
use codeexec_crds::{CodeExecution, Phase, Reason};
use codeexec_e2e::{Cluster, Program, cluster::PATIENCE, wait_until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

const STOPPED_WITHIN: Duration = Duration::from_secs(2);

async fn running(cluster: &Cluster) -> Result<(CodeExecution, Pod)> {
    let execution = cluster
        .apply("stopped", &Program::that_takes(25.0, "runs"))
        .await?;
    let pod = cluster.pod_that_printed(&execution, "runs").await?;
    Ok((execution, pod))
}

/// A Pod has stopped when it is gone, or none of its containers runs.
async fn has_stopped(cluster: &Cluster, pod: &Pod) -> Result<Option<()>> {
    let Some(pod) = cluster.executors().get_opt(&pod.name_any()).await? else {
        return Ok(Some(()));
    };
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let states: Vec<_> = statuses.filter_map(|status| status.state.as_ref()).collect();
    Ok((!states.is_empty() && states.iter().all(|state| state.terminated.is_some())).then_some(()))
}

async fn stops_in_time(cluster: &Cluster, pod: &Pod) -> Result<()> {
    let began = Instant::now();
    wait_until("the Pod has stopped", PATIENCE, async || {
        has_stopped(cluster, pod).await
    })
    .await?;
    assert!(began.elapsed() <= STOPPED_WITHIN, "it took {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn cancelling_stops_a_running_program_within_two_seconds() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    cluster.cancel(&execution.name_any()).await?;
    stops_in_time(&cluster, &pod).await?;
    let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Cancelled), Some(Reason::Cancelled))
    );
    assert_eq!(status.retryable, Some(false));
    assert_eq!(status.output.as_deref(), Some("runs\n"));
    Ok(())
}

#[tokio::test]
async fn deleting_the_execution_stops_its_program_within_two_seconds() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    cluster
        .executions()
        .delete(&execution.name_any(), &DeleteParams::default())
        .await?;
    stops_in_time(&cluster, &pod).await
}

#[tokio::test]
async fn an_execution_cancelled_at_once_never_runs() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let program = Program::new("print('ran')");
    let mut execution = program.resource(&codeexec_e2e::unique("cancelled-at-once"));
    execution.spec.cancel = true;
    cluster
        .executions()
        .create(&Default::default(), &execution)
        .await?;
    let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
    assert_eq!(status.phase, Some(Phase::Cancelled));
    assert_eq!((status.output, status.pod_name), (None, None));
    Ok(())
}

#[tokio::test]
async fn a_finished_programs_pod_goes_within_a_few_seconds() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, status) = cluster.apply_and_wait("goes", &Program::new("print(1)")).await?;
    assert_eq!(status.phase, Some(Phase::Succeeded));
    wait_until("its Pod is gone", Duration::from_secs(10), async || {
        Ok(cluster.pods_of(&execution).await?.is_empty().then_some(()))
    })
    .await
}
