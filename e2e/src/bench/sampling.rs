//! Takes the samples, in turn.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use codeexec_crds::ExecutorPoolSpec;

use super::{AttachedFloor, LocalServer, PodFloor, Report, Samples, python_floor};
use crate::{Cluster, Program};

/// Samples before the counted ones: connections, caches, the operator's own start.
const WARM_UP: usize = 3;

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
    let floor = PodFloor::like_the_operators(cluster).await?;
    let mut attached = AttachedFloor::start(&floor).await?;

    let kinds = ["cold", "local", "floor.pod", "floor.attached", "floor.python"];
    let mut taken = [const { Samples::new() }; 5];
    for round in 0..WARM_UP + samples {
        floor.settle(&attached).await?;
        let began = Instant::now();
        let answer = cluster.run(&program).await?;
        let cold = began.elapsed();
        ensure!(answer["output"] == "1\n" && answer["warm"] == false, "{answer}");
        floor.settle(&attached).await?;
        let pod = floor.sample().await?;
        floor.settle(&attached).await?;
        let times = [
            cold,
            local.sample().await?,
            pod,
            attached.sample().await?,
            python_floor(&python).await?,
        ];
        if round >= WARM_UP {
            taken
                .iter_mut()
                .zip(times)
                .for_each(|(samples, time)| samples.push(time));
        }
    }
    report
        .times
        .extend(kinds.into_iter().zip(taken.iter().map(Samples::summary)));
    attached.stop().await?;
    cluster.remove_pool(&pool).await
}
