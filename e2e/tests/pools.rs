//! Pools: idle Pods that are kept ready, and what an execution gets from one.
//!
//! Each test has a pool of its own, which goes with it. What executions share in a pool, and what is imported
//! beforehand, stands in here as well; what happens when things break, in `pool_faults.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::{
    CodeExecution, CodeExecutionStatus, LABEL_EXECUTION, LABEL_POOL, LABEL_TEMPLATE, Phase, Reason,
};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::pool::FILL_PATIENCE;
use codeexec_e2e::tools::kubectl;
use codeexec_e2e::wait::for_as_long_as;
use codeexec_e2e::{Cluster, Pool, PoolOf, Program, Witness, unique, wait_until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard};

#[path = "pools/preload.rs"]
mod preload;
#[path = "pools/reuse.rs"]
mod reuse;
#[path = "pools/turns.rs"]
mod turns;
#[path = "pools/writes.rs"]
mod writes;

/// Held for writing by the test that counts everything the operator does; the others share it.
static BESIDE: RwLock<()> = RwLock::const_new(());

async fn connect() -> Result<(Cluster, RwLockReadGuard<'static, ()>)> {
    let beside = BESIDE.read().await;
    Ok((Cluster::connect().await?, beside))
}

fn is_warm(status: &CodeExecutionStatus) -> Result<()> {
    let pod = status.pod_name.as_deref().unwrap_or_default();
    ensure!(
        status.warm == Some(true) && pod.starts_with("idle-"),
        "{status:?}"
    );
    Ok(())
}

fn is_cold(status: &CodeExecutionStatus) -> Result<()> {
    let pod = status.pod_name.as_deref().unwrap_or_default();
    ensure!(
        status.warm == Some(false) && pod.starts_with("exec-"),
        "{status:?}"
    );
    Ok(())
}

fn printed(status: &CodeExecutionStatus, output: &str) -> Result<()> {
    ensure!(
        status.phase == Some(Phase::Succeeded) && status.output.as_deref() == Some(output),
        "{status:?}"
    );
    Ok(())
}

fn template(pod: &Pod) -> Option<&str> {
    pod.labels().get(LABEL_TEMPLATE).map(String::as_str)
}

/// Whether the kubelet says that its container is up, and nobody has deleted it.
fn is_up(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test]
async fn a_pool_keeps_its_pods_ready_and_says_so() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(2)
        .run_full(&cluster, async |pool| {
            let status = pool.status().await?;
            ensure!(
                (status.replicas, status.ready, status.claimed, status.queued) == (2, 2, 0, 0),
                "{status:?}"
            );
            let selector = format!("{LABEL_POOL}={},!{LABEL_EXECUTION}", pool.name());
            ensure!(status.selector == Some(selector), "{status:?}");
            let ready = pool.ready_condition().await?.context("a condition Ready")?;
            ensure!(
                (ready.status.as_str(), ready.reason.as_str()) == ("True", "AsWanted"),
                "{ready:?}"
            );
            let idle = pool.idle_pods().await?;
            ensure!(
                idle.iter().all(|pod| pod.name_any().starts_with("idle-")),
                "{idle:?}"
            );
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_request_gets_a_warm_pod_that_becomes_its_own_and_the_pool_fills_up_again() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(1)
        .run_full(&cluster, async |pool| {
            let answer = cluster.run(&pool.program("print(1)")).await?;
            ensure!(answer["warm"] == true && answer["output"] == "1\n", "{answer}");
            pool.is_full().await?;

            let idle = pool.idle_pods().await?.swap_remove(0);
            let program = Program::that_takes(2.0, "runs").pool(pool.name());
            let execution = cluster.apply("warm", &program).await?;
            let pod = cluster.pod_that_printed(&execution, "runs").await?;
            ensure!(
                pod.uid() == idle.uid(),
                "{} is not {}",
                pod.name_any(),
                idle.name_any()
            );
            let owners = json!(pod.metadata.owner_references);
            ensure!(
                owners[0]["kind"] == "CodeExecution"
                    && owners[0]["uid"] == json!(execution.uid())
                    && owners[1].is_null(),
                "{owners}"
            );
            let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
            printed(&status, "runs\ndone\n")?;
            is_warm(&status)?;
            ensure!(status.pod_name == Some(pod.name_any()), "{status:?}");
            wait_until("its Pod is gone", PATIENCE, async || {
                Ok(cluster.pods_of(&execution).await?.is_empty().then_some(()))
            })
            .await?;
            pool.is_full().await
        })
        .await
}

#[tokio::test]
async fn all_of_a_request_reaches_a_warm_pod() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let code = "\
import json, shutil, time
os, sys = shutil.os, shutil.sys
print(json.dumps({
    'stdin': sys.stdin.read(), 'args': sys.argv[1:], 'env': os.environ.get('GREETING'),
    'file': open('data/in.txt').read(), 'cwd': os.path.samefile('.', '/code'),
    'source': open('main.py').read().startswith('import json'), 'name': __name__,
}))
sys.stderr.write('aside')
";
    PoolOf::pods(1)
        .run_full(&cluster, async |pool| {
            let program = pool
                .program(code)
                .stdin("line\n")
                .args(["a b".to_owned(), "ü".to_owned()])
                .env("GREETING", "hello")
                .file("data/in.txt", b"from a file");
            let answer = cluster.run(&program).await?;
            ensure!(
                answer["warm"] == true && answer["status"] == "success",
                "{answer}"
            );
            let seen: Value = serde_json::from_str(answer["output"].as_str().unwrap_or_default())
                .with_context(|| answer.to_string())?;
            let expected = json!({
                "stdin": "line\n", "args": ["a b", "ü"], "env": "hello", "file": "from a file", "cwd": true,
                "source": true, "name": "__main__",
            });
            ensure!(seen == expected, "{seen}");
            ensure!(answer["stderr"] == "aside", "{answer}");
            Ok(())
        })
        .await
}

/// Runs a program on the only Pod of a pool, and returns what it ended with.
async fn ends_on_a_warm_pod(program: Program) -> Result<CodeExecutionStatus> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(1)
        .run_full(&cluster, async |pool| {
            let program = program.pool(pool.name());
            let (_, status) = cluster.apply_and_wait("ends", &program).await?;
            is_warm(&status)?;
            pool.is_full().await?;
            Ok(status)
        })
        .await
}

#[tokio::test]
async fn a_timeout_on_a_warm_pod_is_a_timeout_with_the_output_so_far() -> Result<()> {
    let status = ends_on_a_warm_pod(Program::that_takes(20.0, "so far").timeout(1)).await?;
    ensure!(
        (status.phase, status.reason) == (Some(Phase::TimedOut), Some(Reason::DeadlineExceeded)),
        "{status:?}"
    );
    ensure!(status.output.as_deref() == Some("so far\n"), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn memory_that_ran_out_on_a_warm_pod_is_out_of_memory() -> Result<()> {
    let status = ends_on_a_warm_pod(Program::that_runs_out_of_memory()).await?;
    ensure!(
        (status.phase, status.reason) == (Some(Phase::Failed), Some(Reason::OutOfMemory)),
        "{status:?}"
    );
    ensure!(
        (status.output.as_deref(), status.retryable) == (Some("runs\n"), Some(false)),
        "{status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_program_that_runs_on_a_warm_pod_says_so_and_can_be_cancelled() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(1)
        .run_full(&cluster, async |pool| {
            let program = Program::that_takes(25.0, "runs").pool(pool.name());
            let execution = cluster.apply("cancelled", &program).await?;
            let name = execution.name_any();
            let running = wait_until("its status says Running", PATIENCE, async || {
                let status = cluster.executions().get(&name).await?.status.unwrap_or_default();
                Ok((status.phase == Some(Phase::Running)).then_some(status))
            })
            .await?;
            let pod = running.pod_name.clone().unwrap_or_default();
            ensure!(pod.starts_with("idle-"), "{running:?}");
            ensure!(
                running.node_name.is_some() && running.start_time.is_some(),
                "{running:?}"
            );
            cluster.pod_that_printed(&execution, "runs").await?;
            cluster.cancel(&name).await?;
            let status = cluster.end_of(&name, PATIENCE).await?;
            ensure!(
                (status.phase, status.reason) == (Some(Phase::Cancelled), Some(Reason::Cancelled)),
                "{status:?}"
            );
            ensure!(status.output.as_deref() == Some("runs\n"), "{status:?}");
            ensure!(status.pod_name == Some(pod), "{status:?}");
            is_warm(&status)?;
            pool.is_full().await
        })
        .await
}

#[tokio::test]
async fn where_no_pod_is_ready_a_cold_one_is_started_at_once() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(0)
        .run(&cluster, async |pool| {
            let (_, status) = cluster.apply_and_wait("cold", &pool.program("print(1)")).await?;
            printed(&status, "1\n")?;
            is_cold(&status)?;

            pool.scale(1).await?;
            pool.is_full().await?;
            let program = Program::that_takes(2.0, "runs").pool(pool.name());
            let (first, second) = tokio::join!(
                cluster.apply_and_wait("both", &program),
                cluster.apply_and_wait("both", &program)
            );
            let (first, second) = (first?.1, second?.1);
            for status in [&first, &second] {
                printed(status, "runs\ndone\n")?;
            }
            let (warm, cold) = if first.warm == Some(true) {
                (first, second)
            } else {
                (second, first)
            };
            is_warm(&warm)?;
            is_cold(&cold)?;
            pool.is_full().await
        })
        .await
}

#[tokio::test]
async fn a_pool_is_scaled_like_any_other_and_its_pods_go_with_it() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let scale = async |pool: &Pool, replicas: &str| {
        let what = format!("executorpool/{}", pool.name());
        let replicas = format!("--replicas={replicas}");
        kubectl(&["scale", &what, &replicas, "-n", &cluster.executions_namespace]).await?;
        pool.is_full().await?;
        let status = pool.status().await?;
        let selector = status.selector.unwrap_or_default();
        let namespace = cluster.executions_namespace.as_str();
        let selected = kubectl(&["get", "pods", "-n", namespace, "-l", &selector, "-o", "name"]).await?;
        let selected: BTreeSet<String> = selected.lines().map(str::to_owned).collect();
        ensure!(
            i32::try_from(selected.len()) == Ok(status.replicas),
            "{} replicas: {selected:?}",
            status.replicas
        );
        anyhow::Ok(selected)
    };
    PoolOf::pods(0)
        .run(&cluster, async |pool| {
            let three = scale(pool, "3").await?;
            let one = scale(pool, "1").await?;
            ensure!(one.is_subset(&three), "{one:?} was one of {three:?}");
            let two = scale(pool, "2").await?;
            ensure!(one.is_subset(&two), "{one:?} is one of {two:?}");
            pool.remove().await
        })
        .await
}

#[tokio::test]
async fn a_pool_whose_image_cannot_be_pulled_says_so() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let image = "codeexec.local/no-such-image:0";
    PoolOf::pods(1)
        .with(|spec| spec.image = Some(image.to_owned()))
        .run(&cluster, async |pool| {
            let what = "the pool's condition says that its image can't be pulled";
            let condition = wait_until(what, PATIENCE, async || {
                let condition = pool.ready_condition().await?;
                Ok(condition.filter(|condition| condition.reason == "ImagePull"))
            })
            .await?;
            ensure!(
                condition.status == "False" && condition.message.contains(image),
                "{condition:?}"
            );
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_module_that_does_not_exist_is_named_and_costs_few_pods_and_no_execution() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(2)
        .with(|spec| spec.preload = Some(vec!["json".to_owned(), "no_such_module".to_owned()]))
        .run(&cluster, async |pool| {
            let count = pool.count_pods();
            let what = "the pool's condition names the module";
            let condition = wait_until(what, PATIENCE, async || {
                let condition = pool.ready_condition().await?;
                Ok(condition.filter(|condition| condition.message.contains("no_such_module")))
            })
            .await?;
            ensure!(
                (condition.status.as_str(), condition.reason.as_str()) == ("False", "PodsFail"),
                "{condition:?}"
            );
            let (_, status) = cluster
                .apply_and_wait("anyway", &pool.program("print('anyway')"))
                .await?;
            printed(&status, "anyway\n")?;
            is_cold(&status)?;

            for_as_long_as(Duration::from_secs(10)).await;
            let made = count.so_far();
            // Two at a time, after pauses of 1, 2, 4 and 8 seconds, and the one of the execution.
            ensure!((2..=13).contains(&made), "{made} Pods were made");
            let condition = pool.ready_condition().await?.context("a condition Ready")?;
            ensure!(condition.message.contains("no_such_module"), "{condition:?}");

            // Whoever mends it need not wait for the pause to end.
            pool.change(json!({"preload": ["json"]})).await?;
            pool.is_full().await
        })
        .await
}

#[tokio::test]
async fn a_changed_spec_replaces_the_pods_while_most_stay_ready() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(4)
        .run_full(&cluster, async |pool| {
            let before = pool.idle_pods().await?;
            let old = template(&before[0]).context("a template")?.to_owned();
            for change in [
                json!({"preload": ["json"]}),
                json!({"resources": {"limits": {"memory": "300Mi"}}}),
            ] {
                pool.change(change).await?;
            }
            let mut fewest = (usize::MAX, i32::MAX);
            wait_until("all idle Pods are of the new spec", FILL_PATIENCE, async || {
                let pods = pool.idle_pods().await?;
                let ready = pool.status().await?.ready;
                fewest = (
                    fewest.0.min(pods.iter().filter(|pod| is_up(pod)).count()),
                    fewest.1.min(ready),
                );
                let all_new = pods.iter().all(|pod| template(pod) != Some(&old)) && pods.len() == 4;
                Ok(all_new.then_some(()))
            })
            .await?;
            ensure!(
                fewest.0 >= 2 && fewest.1 >= 2,
                "at worst {} Pods were up, and {} ready",
                fewest.0,
                fewest.1
            );
            pool.is_full().await?;
            let pods = pool.idle_pods().await?;
            let templates: BTreeSet<_> = pods.iter().map(template).collect();
            ensure!(templates.len() == 1, "{templates:?}");
            for pod in &pods {
                let container = &pod.spec.as_ref().context("a spec")?.containers[0];
                let container = json!(container);
                ensure!(
                    container["resources"]["limits"]["memory"] == "300Mi",
                    "{container}"
                );
            }
            let (_, status) = cluster
                .apply_and_wait("on-new", &pool.program("print(1)"))
                .await?;
            printed(&status, "1\n")?;
            is_warm(&status)
        })
        .await
}

#[tokio::test]
async fn two_executions_never_share_a_pod() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    PoolOf::pods(4)
        .run_full(&cluster, async |pool| {
            let witness = Witness::start(&cluster).await?;
            let all = (0..12).map(async |number| {
                let line = unique(&format!("number-{number}"));
                let program = pool.program(format!("print({line:?})"));
                let (execution, status) = cluster.apply_and_wait("at-once", &program).await?;
                printed(&status, &format!("{line}\n"))?;
                anyhow::Ok((execution, status))
            });
            let ended: Vec<(CodeExecution, CodeExecutionStatus)> = futures::future::try_join_all(all).await?;
            let pods: BTreeSet<_> = ended.iter().map(|(_, status)| &status.pod_name).collect();
            ensure!(pods.len() == 12, "12 executions had these Pods: {pods:?}");
            let warm = ended.iter().filter(|(_, status)| is_warm(status).is_ok());
            ensure!(warm.count() >= 4, "fewer warm Pods than there were: {ended:?}");
            for (execution, _) in &ended {
                witness.saw_it_start_once(execution).await?;
            }
            pool.is_full().await
        })
        .await
}
