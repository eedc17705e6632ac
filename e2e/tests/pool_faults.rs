//! Pools when things break: the operator, an idle Pod, its runner, and everything between the two.
//!
//! Whatever it is, no execution is lost, none runs twice, and the pool is full again. These tests hurt the
//! operator and the node, so they run one after the other, and nothing beside them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::{CodeExecution, CodeExecutionStatus, Phase};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::outage::Outage;
use codeexec_e2e::processes::runner_in;
use codeexec_e2e::tools::{Ran, run};
use codeexec_e2e::{Cluster, Pool, PoolOf, Program, Witness, operator, unique, wait_until};
use codeexec_operator::failpoints;
use kube::ResourceExt;
use kube::api::DeleteParams;
use rustix::process::Signal;

mod common;

use common::{FAILOVER, has_failpoints, program, ran_whole_and_once, survives, whole_cluster, within};

/// Steps of an execution on a warm Pod at which the operator is killed, besides those of the claim.
const AFTER_THE_CLAIM: [&str; 6] = [
    "before-frame",
    "mid-frame",
    "after-frame",
    "after-started",
    "before-result-write",
    "after-result-write",
];

/// Executions of one moment on a pool that has Pods for half of them.
const BURST: usize = 8;
const BURST_PODS: i32 = 4;

fn on_idle_pod(status: &CodeExecutionStatus) -> bool {
    let pod = status.pod_name.as_deref();
    pod.is_some_and(|pod| pod.starts_with("idle-"))
}

/// What only a cluster on this machine can be hurt with.
fn is_elsewhere() {
    eprintln!("SKIPPED: the processes of this cluster are not on this machine, or out of reach");
}

#[tokio::test]
async fn an_operator_killed_at_any_step_on_a_warm_pod_loses_nothing_and_repeats_nothing() -> Result<()> {
    if !has_failpoints() {
        return Ok(());
    }
    let (cluster, _alone) = whole_cluster().await?;
    let witness = Witness::start(&cluster).await?;
    PoolOf::pods(2)
        .run(&cluster, async |pool| {
            for failpoint in failpoints::CLAIM_NAMES.into_iter().chain(AFTER_THE_CLAIM) {
                pool.is_full().await?;
                let first = unique("first");
                let program = program(&first).pool(pool.name());
                let status = survives(&cluster, &witness, failpoint, program, &first)
                    .await
                    .with_context(|| format!("killed at {failpoint}"))?;
                // Who takes over what was not claimed yet can't know that, and makes it a Pod of its own.
                ensure!(
                    failpoint == "before-claim" || on_idle_pod(&status),
                    "killed at {failpoint}: {status:?}"
                );
            }
            pool.is_full().await
        })
        .await
}

/// Executions that were applied at once, and what each prints first.
struct Burst(Vec<(CodeExecution, String)>);

impl Burst {
    async fn apply(cluster: &Cluster, pool: &Pool) -> Result<Self> {
        let all = (0..BURST).map(async |_| {
            let first = unique("first");
            // Long enough for most of them to be under way when the first has begun.
            let program = Program::that_takes(3.0, &first).timeout(15).pool(pool.name());
            anyhow::Ok((cluster.apply("burst", &program).await?, first))
        });
        Ok(Self(futures::future::try_join_all(all).await?))
    }

    /// Waits until one of them has begun.
    async fn has_begun(&self, cluster: &Cluster) -> Result<()> {
        wait_until("one of the burst has a Pod", PATIENCE, async || {
            for (execution, _) in &self.0 {
                if !cluster.pods_of(execution).await?.is_empty() {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await
    }

    async fn ended_well(&self, cluster: &Cluster, witness: &Witness) -> Result<()> {
        for (execution, first) in &self.0 {
            let status = cluster.end_of(&execution.name_any(), within(execution)).await?;
            ran_whole_and_once(&status, first)?;
            witness.saw_it_start_once(execution).await?;
        }
        Ok(())
    }
}

/// A full pool, and the operator's process that leads.
struct Led<'a> {
    cluster: &'a Cluster,
    pool: &'a Pool,
    leader: &'a str,
    pid: i32,
}

impl Led<'_> {
    async fn burst(&self) -> Result<Burst> {
        Burst::apply(self.cluster, self.pool).await
    }

    async fn burst_that_has_begun(&self) -> Result<Burst> {
        let burst = self.burst().await?;
        burst.has_begun(self.cluster).await?;
        Ok(burst)
    }

    async fn kill(&self) -> Result<()> {
        operator::signal(self.pid, Signal::KILL)?;
        self.is_replaced().await
    }

    /// Stops it, and returns when another one leads.
    async fn stop(&self) -> Result<()> {
        operator::signal(self.pid, Signal::STOP)?;
        self.is_replaced().await
    }

    fn wake(&self) -> Result<()> {
        operator::signal(self.pid, Signal::CONT)
    }

    async fn is_replaced(&self) -> Result<()> {
        operator::leader_other_than(self.cluster, self.leader, FAILOVER)
            .await
            .map(drop)
    }
}

/// Nothing of a burst is lost or runs twice while this happens, and the pool is full again afterwards.
async fn a_burst_survives(harm: impl AsyncFnOnce(&Led<'_>) -> Result<Burst>) -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    let (leader, Some(pid)) = operator::leading_process(&cluster).await? else {
        is_elsewhere();
        return Ok(());
    };
    PoolOf::pods(BURST_PODS)
        .run_full(&cluster, async |pool| {
            let witness = Witness::start(&cluster).await?;
            let led = Led {
                cluster: &cluster,
                pool,
                leader: &leader,
                pid,
            };
            let burst = harm(&led).await;
            // Whatever came of it: a process that is still stopped would stay so. One that was killed can't be woken.
            led.wake().ok();
            burst?.ended_well(&cluster, &witness).await?;
            operator::heal(&cluster).await?;
            pool.is_full().await
        })
        .await
}

#[tokio::test]
async fn a_leader_that_is_killed_under_a_burst_loses_nothing_and_the_pool_fills_up_again() -> Result<()> {
    a_burst_survives(async |led| {
        let burst = led.burst_that_has_begun().await?;
        led.kill().await?;
        Ok(burst)
    })
    .await
}

#[tokio::test]
async fn a_leader_that_was_stopped_over_an_idle_pool_claims_none_of_its_pods_any_more() -> Result<()> {
    a_burst_survives(async |led| {
        led.stop().await?;
        led.pool.is_full().await?;
        let burst = led.burst().await?;
        // Awake it believes that it leads, sees the burst, and has streams to the same Pods.
        led.wake()?;
        Ok(burst)
    })
    .await
}

#[tokio::test]
async fn a_leader_that_was_stopped_under_a_burst_runs_nothing_twice() -> Result<()> {
    a_burst_survives(async |led| {
        let burst = led.burst_that_has_begun().await?;
        led.stop().await?;
        // While its successor still works on what it left.
        led.wake()?;
        Ok(burst)
    })
    .await
}

/// An execution succeeds right after this happened to one idle Pod, which is replaced.
async fn goes_on_without(harm: impl AsyncFn(&Cluster, &Pool, &str) -> Result<bool>) -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    PoolOf::pods(2)
        .run_full(&cluster, async |pool| {
            let witness = Witness::start(&cluster).await?;
            // The oldest is the one that the next execution would get.
            let mut idle = pool.idle_pods().await?;
            idle.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
            let (name, uid) = (idle[0].name_any(), idle[0].uid().context("a uid")?);
            if !harm(&cluster, pool, &uid).await? {
                is_elsewhere();
                return Ok(());
            }
            let first = unique("first");
            let program = program(&first).pool(pool.name());
            let (execution, status) = cluster.apply_and_wait("after", &program).await?;
            ran_whole_and_once(&status, &first)?;
            witness.saw_it_start_once(&execution).await?;
            pool.is_full().await?;
            let idle = pool.idle_pods().await?;
            ensure!(
                idle.iter().all(|pod| pod.name_any() != name),
                "{name} is still there"
            );
            Ok(())
        })
        .await
}

async fn delete(cluster: &Cluster, pool: &Pool, uid: &str, params: DeleteParams) -> Result<bool> {
    let idle = pool.idle_pods().await?;
    let pod = idle.iter().find(|pod| pod.uid().as_deref() == Some(uid));
    let name = pod.context("the Pod")?.name_any();
    cluster.executors().delete(&name, &params).await?;
    Ok(true)
}

#[tokio::test]
async fn an_idle_pod_that_somebody_deletes_is_replaced() -> Result<()> {
    goes_on_without(async |cluster, pool, uid| delete(cluster, pool, uid, DeleteParams::default()).await)
        .await
}

#[tokio::test]
async fn an_idle_pod_that_somebody_deletes_without_grace_is_replaced() -> Result<()> {
    let params = DeleteParams::default().grace_period(0);
    goes_on_without(async |cluster, pool, uid| delete(cluster, pool, uid, params.clone()).await).await
}

#[tokio::test]
async fn an_idle_pod_whose_runner_dies_is_replaced() -> Result<()> {
    goes_on_without(async |_, _, uid| {
        let Some(pid) = runner_in(uid) else {
            return Ok(false);
        };
        operator::signal(pid, Signal::KILL)?;
        Ok(true)
    })
    .await
}

/// How long the kubelet may wait before it tries again to make a Pod's sandbox: 10 s and up to half of that.
const KUBELET_PAUSE: Duration = Duration::from_secs(15);

/// A program that runs on a warm Pod, and an idle Pod beside it, survive `harm`, and the pool goes on.
async fn goes_on_after(harm: impl AsyncFnOnce(&Cluster) -> Result<bool>) -> Result<()> {
    let (cluster, _alone) = whole_cluster().await?;
    PoolOf::pods(2)
        .run_full(&cluster, async |pool| {
            let witness = Witness::start(&cluster).await?;
            let first = unique("first");
            let through = Program::that_takes(8.0, &first).timeout(20).pool(pool.name());
            let through = cluster.apply("through", &through).await?;
            cluster.pod_that_printed(&through, &first).await?;
            if !harm(&cluster).await? {
                is_elsewhere();
                return Ok(());
            }
            let at_once = unique("at-once");
            let execution = program(&at_once).pool(pool.name());
            let execution = cluster.apply("at-once", &execution).await?;
            let bound = within(&execution) + KUBELET_PAUSE;
            let status = cluster.end_of(&execution.name_any(), bound).await?;
            ran_whole_and_once(&status, &at_once)?;
            witness.saw_it_start_once(&execution).await?;

            let status = cluster.end_of(&through.name_any(), within(&through)).await?;
            ran_whole_and_once(&status, &first)?;
            witness.saw_it_start_once(&through).await?;

            pool.is_full().await?;
            let later = unique("later");
            let program = program(&later).pool(pool.name());
            let (_, status) = cluster.apply_and_wait("later", &program).await?;
            ran_whole_and_once(&status, &later)?;
            ensure!(on_idle_pod(&status), "{status:?}");
            pool.is_full().await
        })
        .await
}

#[tokio::test]
async fn connections_of_the_operator_that_are_cut_lose_nothing() -> Result<()> {
    goes_on_after(async |cluster| {
        let (_, Some(pid)) = operator::leading_process(cluster).await? else {
            return Ok(false);
        };
        // In the network of its Pod, where all but the probes are connections to the Kubernetes API.
        let network = format!("--net=/proc/{pid}/ns/net");
        let Ran {
            success,
            stdout,
            stderr,
        } = run(
            "nsenter",
            &[
                &network,
                "ss",
                "--kill",
                "--tcp",
                "--no-header",
                "state",
                "established",
            ],
            "",
        )
        .await?;
        ensure!(success, "{stderr}");
        // A kernel that can't do this says nothing about it, and connections there are always.
        Ok(!stdout.trim().is_empty())
    })
    .await
}

/// Restarts a part of the node of a cluster that `e2e/cluster/cluster` made.
async fn restart(cluster: &Cluster, part: &str) -> Result<bool> {
    if operator::leading_process(cluster).await?.1.is_none() {
        return Ok(false);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/cluster");
    let ran = run(&script.to_string_lossy(), &["restart", part], "").await?;
    ensure!(ran.success, "{part} was not restarted: {}", ran.stderr);
    Ok(true)
}

#[tokio::test]
async fn a_kubelet_that_is_restarted_loses_nothing() -> Result<()> {
    goes_on_after(async |cluster| restart(cluster, "kubelet").await).await
}

#[tokio::test]
async fn a_container_runtime_that_is_restarted_loses_nothing() -> Result<()> {
    goes_on_after(async |cluster| restart(cluster, "containerd").await).await
}

/// How long a container that ended again and again may wait until it is started once more: the kubelet doubles the
/// pause from 10 s on, and an operator without a Kubernetes API ends after a few seconds.
const RESTART: Duration = Duration::from_secs(150);

#[tokio::test]
async fn a_minute_without_the_kubernetes_api_loses_nothing() -> Result<()> {
    goes_on_after(async |cluster| {
        let Some(outage) = Outage::begin(cluster).await? else {
            return Ok(false);
        };
        let lasted = async {
            // Longer than the Lease, and than any program.
            outage.lasts(cluster, Duration::from_secs(60)).await?;
            cluster.apply("meanwhile", &program(&unique("meanwhile"))).await
        }
        .await;
        outage.end().await?;
        let meanwhile = lasted?;
        operator::leads_again(cluster, RESTART).await?;
        // It ran, or waited too long: in both cases it has an end, and the true one.
        let status = cluster.end_of(&meanwhile.name_any(), within(&meanwhile)).await?;
        ensure!(
            status.phase == Some(Phase::Succeeded)
                || (status.retryable == Some(true) && status.error.is_some() && status.output.is_none()),
            "{status:?}"
        );
        operator::heal(cluster).await?;
        Ok(true)
    })
    .await
}

/// How long an idle Pod has to become ready, and a little more.
const START_PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test]
async fn beside_a_pod_that_freezes_before_it_is_ready_executions_go_on_cold_and_it_is_replaced() -> Result<()>
{
    let (cluster, _alone) = whole_cluster().await?;
    if operator::leading_process(&cluster).await?.1.is_none() {
        is_elsewhere();
        return Ok(());
    }
    // It imports for a second or more: time enough to stop it before it is ready.
    PoolOf::pods(1)
        .with(|spec| spec.preload = None)
        .run(&cluster, async |pool| {
            let (pod, pid) = wait_until("the Pod has a runner", PATIENCE, async || {
                let pods = pool.idle_pods().await?;
                Ok(pods
                    .first()
                    .and_then(|pod| Some((pod.name_any(), runner_in(&pod.uid()?)?))))
            })
            .await?;
            operator::signal(pid, Signal::STOP)?;
            runs_cold(&cluster, pool).await?;
            let log = cluster.executors().logs(&pod, &Default::default()).await?;
            ensure!(
                !log.contains("ready"),
                "it was ready before it was stopped: {log}"
            );

            wait_until("the frozen Pod is gone", START_PATIENCE, async || {
                Ok(cluster.executors().get_opt(&pod).await?.is_none().then_some(()))
            })
            .await?;
            pool.is_full().await?;
            let first = unique("warm");
            let program = program(&first).pool(pool.name());
            let (_, status) = cluster.apply_and_wait("warm", &program).await?;
            ran_whole_and_once(&status, &first)?;
            ensure!(on_idle_pod(&status), "{status:?}");
            Ok(())
        })
        .await
}

async fn runs_cold(cluster: &Cluster, pool: &Pool) -> Result<()> {
    for _ in 0..2 {
        let first = unique("cold");
        let program = program(&first).pool(pool.name());
        let execution = cluster.apply("cold", &program).await?;
        let status = cluster
            .end_of(&execution.name_any(), Duration::from_secs(30))
            .await?;
        ran_whole_and_once(&status, &first)?;
        ensure!(status.warm == Some(false), "{status:?}");
        let ready = pool.status().await?.ready;
        ensure!(ready == 0, "{ready} Pods are ready");
    }
    Ok(())
}
