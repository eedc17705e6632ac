//! Whose turn it is in a pool that runs only so many at once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::{CodeExecution, CodeExecutionStatus, Phase, Reason};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::{Cluster, Pool, PoolOf, Program, wait_until};
use kube::ResourceExt;
use serde_json::json;

use super::connect;

/// An execution that holds the only place of a pool until it is cancelled.
async fn holder(cluster: &Cluster, pool: &Pool) -> Result<CodeExecution> {
    let program = Program::that_takes(29.0, "holds").pool(pool.name()).user("ada");
    let execution = cluster.apply("holds", &program).await?;
    cluster.pod_that_printed(&execution, "holds").await?;
    Ok(execution)
}

async fn status_of(cluster: &Cluster, execution: &CodeExecution) -> Result<CodeExecutionStatus> {
    let execution = cluster.executions().get(&execution.name_any()).await?;
    Ok(execution.status.unwrap_or_default())
}

/// Waits until the status of an execution that waits says how many come before it.
async fn waits_at(cluster: &Cluster, execution: &CodeExecution, position: i32) -> Result<()> {
    let what = format!("{} waits at position {position}", execution.name_any());
    wait_until(&what, PATIENCE, async || {
        let status = status_of(cluster, execution).await?;
        let waits = (status.phase, status.queue_position) == (Some(Phase::Queued), Some(position));
        Ok(waits.then_some(()))
    })
    .await
}

#[tokio::test]
async fn one_at_a_time_the_users_take_turns() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(1)
        .with(|spec| spec.max_concurrent = Some(1))
        .run_full(&cluster, async |pool| {
            let holder = holder(&cluster, pool).await?;
            let code = "import time\nprint(time.time(), flush=True)\ntime.sleep(0.3)\nprint(time.time())";
            let mut waiting = Vec::new();
            for user in ["ada", "ada", "bob", "bob"] {
                let program = pool.program(code).user(user);
                waiting.push(cluster.apply(user, &program).await?);
            }
            for (execution, position) in waiting.iter().zip([0, 2, 1, 3]) {
                waits_at(&cluster, execution, position).await?;
            }
            let status = wait_until("the pool says how many wait", PATIENCE, async || {
                let status = pool.status().await?;
                Ok((status.queued == 4).then_some(status))
            })
            .await?;
            ensure!(status.claimed == 1, "{status:?}");
            cluster.cancel(&holder.name_any()).await?;

            let mut times = Vec::new();
            for execution in &waiting {
                let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
                ensure!(
                    (status.phase, status.queue_position) == (Some(Phase::Succeeded), None),
                    "{status:?}"
                );
                let output = status.output.unwrap_or_default();
                let mut printed = output.lines().map(str::parse::<f64>);
                let mut next = || printed.next().context("a time")?.context("a number");
                times.push((next()?, next()?));
            }
            let order = [times[0], times[2], times[1], times[3]];
            ensure!(
                order.windows(2).all(|pair| pair[0].1 <= pair[1].0),
                "ada's, bob's, ada's, bob's, one after the other: {order:?}"
            );
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_full_queue_refuses_and_who_waits_can_be_cancelled_at_once() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(1)
        .with(|spec| {
            spec.max_concurrent = Some(1);
            spec.queue_limit = 1;
        })
        .run_full(&cluster, async |pool| {
            let holder = holder(&cluster, pool).await?;
            let waiting = cluster.apply("waits", &pool.program("print(1)")).await?;
            waits_at(&cluster, &waiting, 0).await?;

            let refused = cluster.post(&pool.program("print('ran')").body()).await?;
            ensure!(refused.status == 503, "{refused:?}");
            let seconds = refused.retry_after.as_ref().map(|text| text.parse::<u32>());
            ensure!(matches!(seconds, Some(Ok(1..))), "{refused:?}");
            ensure!(
                (&refused.body["code"], &refused.body["reason"])
                    == (&json!("quota_exceeded"), &json!("QuotaExceeded")),
                "{refused:?}"
            );
            let (_, status) = cluster
                .apply_and_wait("refused", &pool.program("print('ran')"))
                .await?;
            ensure!(
                (status.phase, status.reason, status.retryable)
                    == (Some(Phase::Failed), Some(Reason::QuotaExceeded), Some(true)),
                "{status:?}"
            );
            ensure!((&status.output, &status.pod_name) == (&None, &None), "{status:?}");
            let error = status.error.unwrap_or_default();
            ensure!(
                error.contains(pool.name()) && error.contains("queueLimit"),
                "{error}"
            );

            cluster.cancel(&waiting.name_any()).await?;
            let cancelled = cluster
                .end_of(&waiting.name_any(), Duration::from_secs(10))
                .await?;
            ensure!(
                (cancelled.phase, cancelled.reason) == (Some(Phase::Cancelled), Some(Reason::Cancelled)),
                "{cancelled:?}"
            );
            ensure!(
                (&cancelled.output, &cancelled.pod_name, cancelled.queue_position) == (&None, &None, None),
                "{cancelled:?}"
            );
            let still = status_of(&cluster, &holder).await?;
            ensure!(still.phase == Some(Phase::Running), "{still:?}");

            // There is room again.
            let next = cluster.apply("next", &pool.program("print(2)")).await?;
            waits_at(&cluster, &next, 0).await?;
            cluster.cancel(&holder.name_any()).await?;
            let status = cluster.end_of(&next.name_any(), PATIENCE).await?;
            super::printed(&status, "2\n")
        })
        .await
}
