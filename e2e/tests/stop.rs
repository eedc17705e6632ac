//! Cancelling and deleting: the program's Pod stops within two seconds.
//!
//! Times are measured here, so nothing else runs beside these tests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use codeexec_crds::{CodeExecution, Phase, Reason};
use codeexec_e2e::{Cluster, Program, cluster::PATIENCE, wait_until};
use codeexec_runner::frames::{Decoder, FromRunner};
use futures::AsyncReadExt;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use tokio::task::JoinHandle;

const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// Says every 20 ms what time it is, so that its last line tells when it was stopped: the Pod's own status
/// tells that only up to a second later.
const CLOCK: &str = "import time\nwhile True:\n    print(time.time(), flush=True)\n    time.sleep(0.02)\n";

/// A clock that runs, and the output that it will have printed in the end.
async fn running_clock(cluster: &Cluster) -> Result<(CodeExecution, JoinHandle<Result<String>>)> {
    let execution = cluster.apply("stopped", &Program::new(CLOCK).timeout(25)).await?;
    let pod = cluster.pod_that_printed(&execution, "data").await?.name_any();
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    // Opened before the Pod is hurt: its log goes with it.
    let mut log = Box::pin(cluster.executors().log_stream(&pod, &params).await?);
    let reader = tokio::spawn(async move {
        let (mut decoder, mut buffer, mut output) = (Decoder::default(), [0; 4096], String::new());
        loop {
            let length = log.read(&mut buffer).await?;
            for frame in decoder.push(&buffer[..length]) {
                if let FromRunner::Output(piece) = frame {
                    output += &piece.data;
                }
            }
            if length == 0 {
                return Ok(output);
            }
        }
    });
    Ok((execution, reader))
}

/// The clock ended within two seconds of `harm`.
fn stopped_in_time(output: &str, harm: SystemTime) -> Result<()> {
    let last = output.lines().next_back().context("it printed nothing")?;
    let harm = harm.duration_since(UNIX_EPOCH)?.as_secs_f64();
    let took = last.parse::<f64>()? - harm;
    eprintln!("stopped after {took:.2} s");
    assert!(took <= STOPPED_WITHIN.as_secs_f64(), "it took {took:.2} s");
    Ok(())
}

#[tokio::test]
async fn cancelling_stops_a_running_program_within_two_seconds() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, output) = running_clock(&cluster).await?;
    let harm = SystemTime::now();
    cluster.cancel(&execution.name_any()).await?;
    stopped_in_time(&output.await??, harm)?;
    let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Cancelled), Some(Reason::Cancelled))
    );
    assert_eq!(status.retryable, Some(false));
    // With the output so far, to the last line.
    stopped_in_time(&status.output.unwrap_or_default(), harm)
}

#[tokio::test]
async fn deleting_the_execution_stops_its_program_within_two_seconds() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, output) = running_clock(&cluster).await?;
    let harm = SystemTime::now();
    cluster
        .executions()
        .delete(&execution.name_any(), &DeleteParams::default())
        .await?;
    stopped_in_time(&output.await??, harm)?;
    wait_until("its Pod is gone", Duration::from_secs(10), async || {
        Ok(cluster.pods_of(&execution).await?.is_empty().then_some(()))
    })
    .await
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
