//! Takes the samples, in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codeexec_crds::ExecutorPoolSpec;

use super::{AttachedFloor, BenchNamespace, LocalServer, PodCost, PodFloor, Report, Rounds, python_floor};
use crate::{Cluster, Program};

/// Samples before the counted ones: connections, caches, the operator's own start.
const WARM_UP: usize = 3;

/// Fewest samples of each kind of Pod where two are compared.
const COMPARISONS_MIN: usize = 10;

/// Takes `samples` of each kind and puts them into the report. `target` is cargo's target folder, with the
/// release build and the Python environment of local mode.
///
/// # Errors
/// When a program does not end as it should.
pub async fn take_samples(
    cluster: &Cluster,
    target: &Path,
    samples: usize,
    report: &mut Report,
) -> Result<()> {
    BenchNamespace::with(cluster, async |namespace| {
        take_in(cluster, namespace, target, samples, report).await
    })
    .await
}

async fn take_in(
    cluster: &Cluster,
    namespace: &BenchNamespace,
    target: &Path,
    samples: usize,
    report: &mut Report,
) -> Result<()> {
    // A pool without idle Pods, whatever the default one has: cold is cold.
    let spec = ExecutorPoolSpec {
        max_idle_seconds: 3600,
        queue_limit: 100,
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("bench", spec).await?;
    let program = Program::new("print(1)").pool(&pool);
    let python = target.join("python/bin/python3");
    let local = LocalServer::start(target, &python).await?;
    let floor = PodFloor::like_the_operators(cluster, namespace).await?;
    let mut attached = AttachedFloor::start(&floor).await?;

    let mut rounds = Rounds::new(["cold", "local", "floor.pod", "floor.attached", "floor.python"]);
    for round in 0..WARM_UP + samples {
        floor.settle(Some(&attached)).await?;
        let began = Instant::now();
        let answer = cluster.run(&program).await?;
        let cold = began.elapsed();
        ensure!(answer["output"] == "1\n" && answer["warm"] == false, "{answer}");
        floor.settle(Some(&attached)).await?;
        let pod = floor.sample().await?;
        floor.settle(Some(&attached)).await?;
        let times = [
            cold,
            local.sample().await?,
            pod,
            attached.sample().await?,
            python_floor(&python).await?,
        ];
        if round >= WARM_UP {
            rounds.push(times);
        }
    }
    report.add(&rounds);
    let comparisons = samples.div_ceil(3).max(COMPARISONS_MIN);
    report.pod_user_namespace_ms = Some(user_namespace(&floor, &attached, comparisons, report).await?);
    if let Some(plain) = floor.without_runtime_class() {
        let kinds = ["floor.runtime", "floor.plain"];
        report.pod_runtime_class_ms =
            compare(kinds, [&floor, &plain], &attached, comparisons, report).await?;
    }
    attached.stop().await?;
    cluster.remove_pool(&pool).await
}

/// What a user namespace adds to a Pod, where there are any.
async fn user_namespace(
    floor: &PodFloor,
    keep: &AttachedFloor,
    samples: usize,
    report: &mut Report,
) -> Result<PodCost> {
    let (own, node) = (floor.with_own_users(true), floor.with_own_users(false));
    if let Err(why) = own.try_own_users().await {
        return Ok(PodCost::Unavailable(format!("not available here: {why:#}")));
    }
    let kinds = ["floor.userns", "floor.hostns"];
    let cost = compare(kinds, [&own, &node], keep, samples, report).await?;
    cost.context("both kinds were just taken")
}

/// Takes samples of two floors in turn; what the first takes more than the second.
async fn compare(
    kinds: [&'static str; 2],
    floors: [&PodFloor; 2],
    keep: &AttachedFloor,
    samples: usize,
    report: &mut Report,
) -> Result<Option<PodCost>> {
    let mut rounds = Rounds::new(kinds);
    for _ in 0..samples {
        let mut times = [Duration::ZERO; 2];
        for (time, floor) in times.iter_mut().zip(floors) {
            floor.settle(Some(keep)).await?;
            *time = floor.sample().await?;
        }
        rounds.push(times);
    }
    report.add(&rounds);
    Ok(report.difference(kinds[0], kinds[1]).map(PodCost::Ms))
}
