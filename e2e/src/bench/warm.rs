//! How long an answer takes where Pods are ready for it.

use anyhow::{Context, Result};
use codeexec_crds::Timings;
use serde_json::Value;

use super::{AttachedFloor, BenchNamespace, PodFloor, PoolKind, Report, Rounds, Stages, WarmPool};
use crate::Cluster;

/// Samples before the counted ones.
const WARM_UP: usize = 3;

/// Pods of the pool that imports nothing: one for a sample, one for that beside its refill, and as many again.
const REPLICAS: i32 = 4;

/// Pods of the pool with modules: each round takes one.
const REPLICAS_PRELOAD: i32 = 2;

const FRAME: &str = "import pandas\nprint(pandas.DataFrame({'a': [1, 2], 'b': [3, 4]}))\n";
const FRAME_PRINTED: &str = "   a  b\n0  1  3\n1  2  4\n";

/// Prints, and goes on for longer than that takes to be seen.
const SEEN: &str = "import time\nprint(1)\ntime.sleep(0.4)\n";

/// Takes `samples` of each kind and puts them into the report.
///
/// # Errors
/// When a program does not end as it should, or no Pod is ready for it.
pub async fn measure_warm(cluster: &Cluster, samples: usize, report: &mut Report) -> Result<()> {
    BenchNamespace::with(cluster, async |namespace| {
        let floor = PodFloor::like_the_operators(cluster, namespace).await?;
        let mut attached = AttachedFloor::start(&floor).await?;
        WarmPool::with(cluster, REPLICAS, PoolKind::Plain, async |plain| {
            WarmPool::with(cluster, REPLICAS_PRELOAD, PoolKind::Preload, async |preload| {
                take(plain, preload, &mut attached, samples, report).await
            })
            .await
        })
        .await?;
        attached.stop().await
    })
    .await
}

async fn take(
    plain: &WarmPool,
    preload: &WarmPool,
    attached: &mut AttachedFloor,
    samples: usize,
    report: &mut Report,
) -> Result<()> {
    let mut rounds = Rounds::new(["warm", "warm_refilling", "warm_pandas", "live", "floor.warm"]);
    let mut timings = Vec::new();
    for round in 0..WARM_UP + samples {
        tokio::try_join!(plain.is_full(), preload.is_full())?;
        let before = plain.idle_pods().await?;
        let floor = attached.sample().await?;
        let (warm, answer) = plain.run_warm("print(1)", "1\n").await?;
        plain.is_refilling(&before).await?;
        let (refilling, _) = plain.run_warm("print(1)", "1\n").await?;
        // Of both pools: the refill of one must not fall on a sample of the other.
        tokio::try_join!(plain.is_full(), preload.is_full())?;
        let (pandas, _) = preload.run_warm(FRAME, FRAME_PRINTED).await?;
        tokio::try_join!(plain.is_full(), preload.is_full())?;
        let live = plain.follow_warm(SEEN).await?;
        if round >= WARM_UP {
            rounds.push([warm, refilling, pandas, live, floor]);
            timings.push(timings_of(&answer)?);
        }
    }
    report.add(&rounds);
    report.warm_stages_ms = Stages::of(&timings);
    Ok(())
}

fn timings_of(answer: &Value) -> Result<Timings> {
    serde_json::from_value(answer["timings"].clone())
        .with_context(|| format!("an answer without its timings: {answer}"))
}
