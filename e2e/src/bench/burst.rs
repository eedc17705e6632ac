//! How long many requests at once take on a full pool.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;

use super::{PoolKind, Report, Rounds, WarmPool};
use crate::Cluster;

/// Pods of the pool.
const REPLICAS: usize = 8;

/// Rounds before the counted ones.
const WARM_UP: usize = 1;

/// Rounds in which there is a request for each Pod, and how many of them are followed by twice as many.
const ROUNDS: usize = 5;
const ROUNDS_BEYOND: usize = 3;

/// Puts a handful of bursts into the report.
///
/// # Errors
/// When a program does not end as it should, or no Pod is ready for one that must find one.
pub async fn measure_bursts(cluster: &Cluster, report: &mut Report) -> Result<()> {
    WarmPool::with(cluster, i32::try_from(REPLICAS)?, PoolKind::Plain, async |pool| {
        let mut within = Rounds::new(["burst8"]);
        let mut beyond = Rounds::new(["burst16"]);
        for round in 0..WARM_UP + ROUNDS {
            let took = burst(pool, REPLICAS).await?;
            if round >= WARM_UP {
                within.push([took]);
            }
            if (WARM_UP..WARM_UP + ROUNDS_BEYOND).contains(&round) {
                beyond.push([burst(pool, 2 * REPLICAS).await?]);
            }
        }
        report.add(&within);
        report.add(&beyond);
        Ok(())
    })
    .await
}

/// From so many requests at once to the last answer.
async fn burst(pool: &WarmPool, requests: usize) -> Result<Duration> {
    pool.is_full().await?;
    let began = Instant::now();
    let answers = try_join_all((0..requests).map(|_| pool.run("print(1)", "1\n"))).await?;
    let took = began.elapsed();
    let warm = answers
        .iter()
        .filter(|(_, answer)| answer["warm"] == true)
        .count();
    ensure!(
        warm >= requests.min(REPLICAS),
        "{warm} of {requests} requests found one of {REPLICAS} ready Pods"
    );
    Ok(took)
}
