//! Processes die and stop at the worst moments: every execution ends in time, and none runs twice.
//!
//! What is counted is the `started` frames in the logs of all Pods ever seen, not what the operator says.
//! These tests hurt the operator, so they run one after the other, and nothing beside them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use codeexec_crds::Phase;
use codeexec_e2e::tools::helm;
use codeexec_e2e::{Cluster, Program, Witness, cluster, operator, unique, wait_until};
use codeexec_operator::failpoints;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use rustix::process::Signal;
use tokio::task::JoinSet;

mod common;

use common::{FAILOVER, has_failpoints, program, ran_whole_and_once, survives, whole_cluster, within};

#[tokio::test]
async fn an_operator_killed_at_any_failpoint_loses_nothing_and_repeats_nothing() -> Result<()> {
    if !has_failpoints() {
        return Ok(());
    }
    let (cluster, _alone) = whole_cluster().await?;
    let witness = Witness::start(&cluster).await?;
    for failpoint in failpoints::NAMES {
        let first = unique("first");
        let began = Instant::now();
        survives(&cluster, &witness, failpoint, program(&first), &first)
            .await
            .with_context(|| format!("killed at {failpoint}"))?;
        eprintln!(
            "killed at {failpoint}: all well after {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_killed_around_a_request_of_300_kb_loses_nothing_and_repeats_nothing() -> Result<()> {
    if !has_failpoints() {
        return Ok(());
    }
    let (cluster, _alone) = whole_cluster().await?;
    let witness = Witness::start(&cluster).await?;
    for failpoint in ["before-frame", "mid-frame", "after-frame"] {
        let first = unique("first");
        let code = format!(
            "import time\nprint({first:?}, flush=True)\ntime.sleep(1)\n\
             assert (len(open('big').read()), len(open(0).read())) == (180_000, 60_000)\nprint('done')\n"
        );
        let big = Program::new(code)
            .timeout(10)
            .file("big", &[b'x'; 180_000])
            .stdin("y".repeat(60_000));
        survives(&cluster, &witness, failpoint, big, &first)
            .await
            .with_context(|| format!("killed at {failpoint}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_that_is_stopped_under_a_printing_program_loses_and_repeats_nothing() -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    let (victim, pid) = operator::leading_process(&cluster).await?;
    let Some(pid) = pid else {
        eprintln!("SKIPPED: the operator's process is not on this machine, so it can't be stopped");
        return Ok(());
    };
    let witness = Witness::start(&cluster).await?;
    // 300 KB a second: what nobody reads fills every buffer between the program and the operator.
    let code =
        "import time\nfor i in range(120):\n    print(i, 'x' * 30_000, flush=True)\n    time.sleep(0.1)\n";
    let execution = cluster.apply("stopped", &Program::new(code).timeout(20)).await?;
    cluster.pod_that_printed(&execution, "xxxx").await?;

    operator::signal(pid, Signal::STOP)?;
    let taken_over = operator::leader_other_than(&cluster, &victim, FAILOVER).await;
    let ended = cluster.end_of(&execution.name_any(), within(&execution)).await;
    // Awake again it still believes that it leads; it must do no harm now.
    operator::signal(pid, Signal::CONT)?;
    taken_over?;
    let status = ended?;
    ensure!(status.phase == Some(Phase::Succeeded), "{status:?}");
    let total = status.output_bytes.unwrap_or_default().stdout;
    ensure!(total > 120 * 30_000, "it printed {total} bytes");
    let output = status.output.unwrap_or_default();
    for (at, line) in output.lines().enumerate() {
        ensure!(
            line.starts_with(&format!("{at} x")),
            "line {at} is {:?}",
            &line[..line.len().min(20)]
        );
    }
    witness.saw_it_start_once(&execution).await?;

    operator::heal(&cluster).await?;
    let first = unique("after");
    let (later, status) = cluster.apply_and_wait("after", &program(&first)).await?;
    ran_whole_and_once(&status, &first)?;
    witness.saw_it_start_once(&later).await
}

/// Applies some programs, does `harm` while they run, and checks that each ended well, in time and once.
async fn runs_through(cluster: &Cluster, harm: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let witness = Witness::start(cluster).await?;
    let mut applied = Vec::new();
    for _ in 0..4 {
        let first = unique("first");
        let program = Program::that_takes(6.0, &first).timeout(20);
        applied.push((cluster.apply("through", &program).await?, first));
    }
    for (execution, first) in &applied {
        cluster.pod_that_printed(execution, first).await?;
    }
    // Some that have not started when it happens.
    for _ in 0..2 {
        let first = unique("first");
        applied.push((cluster.apply("through", &program(&first)).await?, first));
    }
    harm().await?;
    for (execution, first) in &applied {
        let status = cluster.end_of(&execution.name_any(), within(execution)).await?;
        ran_whole_and_once(&status, first)?;
        witness.saw_it_start_once(execution).await?;
    }
    Ok(())
}

#[tokio::test]
async fn when_the_leader_dies_another_takes_over_within_ten_seconds_and_nothing_is_lost() -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    runs_through(&cluster, async || {
        let (leader, pid) = operator::leading_process(&cluster).await?;
        let began = Instant::now();
        if let Some(pid) = pid {
            operator::signal(pid, Signal::KILL)?;
        } else {
            let pods = operator::pods(&cluster).await?;
            let pod = pods
                .iter()
                .find(|pod| leader.starts_with(&pod.name_any()))
                .context("the leader's Pod")?;
            let api: Api<k8s_openapi::api::core::v1::Pod> = cluster.beside_control();
            api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await?;
        }
        operator::leader_other_than(&cluster, &leader, FAILOVER).await?;
        eprintln!(
            "another operator led after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_upgrade_while_programs_run_loses_none_and_drops_no_request() -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    let mut requests = JoinSet::new();
    for _ in 0..2 {
        let (cluster, first) = (cluster.clone(), unique("request"));
        requests.spawn(async move { cluster.run(&Program::that_takes(8.0, &first).timeout(20)).await });
    }
    runs_through(&cluster, async || {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/codeexec");
        let chart = chart.to_string_lossy();
        // A changed annotation replaces every Pod of both Deployments, as a new image would.
        let revision = unique("upgrade");
        let operator = format!("operator.podAnnotations.e2e={revision}");
        let api = format!("api.podAnnotations.e2e={revision}");
        let arguments = [
            "upgrade",
            &cluster.release,
            &chart,
            "-n",
            &cluster.namespace,
            "--reuse-values",
            "--set-string",
            &operator,
            "--set-string",
            &api,
        ];
        helm(&arguments).await?;
        Ok(())
    })
    .await?;
    while let Some(answer) = requests.join_next().await {
        let answer = answer??;
        ensure!(answer["status"] == "success", "{answer}");
    }
    // Old API server Pods wait for their last requests; the new ones must all be there.
    for component in ["operator", "api"] {
        operator::is_at_full_strength(&cluster, component).await?;
    }
    Ok(())
}

#[tokio::test]
async fn when_the_api_server_dies_under_a_request_its_record_still_completes() -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    let witness = Witness::start(&cluster).await?;
    let first = unique("orphan");
    let program = Program::that_takes(5.0, &first).timeout(15);
    let (requester, body) = (cluster.clone(), program.body());
    let request = tokio::spawn(async move { requester.post(&body).await });
    let execution = wait_until(
        "the request became a CodeExecution",
        cluster::PATIENCE,
        async || {
            let all = cluster.executions().list(&Default::default()).await?;
            Ok(all
                .into_iter()
                .find(|execution| execution.spec.code.contains(&first)))
        },
    )
    .await?;
    cluster.pod_that_printed(&execution, &first).await?;

    let replica = execution
        .labels()
        .get(codeexec_crds::LABEL_REPLICA)
        .context("a replica's label")?;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = cluster.beside_control();
    match operator::process_in(replica, "codeexec-api") {
        Some(pid) => operator::signal(pid, Signal::KILL)?,
        None => {
            pods.delete(replica, &DeleteParams::default().grace_period(0))
                .await?;
        }
    }
    // A lost connection is an error, or no answer at all; a made-up answer would be neither.
    let answer = request.await?;
    ensure!(
        !matches!(&answer, Ok(answer) if answer.status == 200),
        "{answer:?}"
    );

    let status = cluster.end_of(&execution.name_any(), within(&execution)).await?;
    ran_whole_and_once(&status, &first)?;
    witness.saw_it_start_once(&execution).await
}
