//! How many executions a second a pool keeps up with, beside the bare Pods that the cluster can start.
//!
//! Both are counted alike: the same number of clients, each of which begins the next one as soon as it has the
//! last one's output, over the same time, in turn.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Result;
use codeexec_crds::ExecutorPoolSpec;
use futures::future::try_join_all;

use super::{BenchNamespace, PodFloor, PoolKind, Report, WarmPool};
use crate::Cluster;

/// Requests, or bare Pods, at once.
const CLIENTS: usize = 4;

/// Pods of a pool.
const REPLICAS: usize = 8;

/// How many end before counting begins: as many as were ready beforehand, which would be speed that nothing can keep
/// up, and as many again, until those that follow are being made as steadily as they are used.
const LEAD_IN: usize = 2 * REPLICAS;

/// How often each rate is counted.
const TURNS: usize = 2;

/// Puts the rates into the report, each counted for this time in each of two turns.
///
/// # Errors
/// When a program does not end as it should.
pub async fn measure_sustained(cluster: &Cluster, time: Duration, report: &mut Report) -> Result<()> {
    BenchNamespace::with(cluster, async |namespace| {
        let bare = PodFloor::like_the_operators(cluster, namespace)
            .await?
            .beside_others();
        let kinds = ["sustained", "pods"];
        measure(cluster, PoolKind::Plain, &bare, "print(1)", kinds, time, report).await?;

        let modules = ExecutorPoolSpec::DEFAULT_PRELOAD;
        let bare = bare.with_imports(&modules);
        // It uses what was imported: otherwise a Pod made for one request would have less to do than a bare one.
        let program = format!("import {}\nprint(1)", modules.join(", "));
        let kinds = ["sustained_preload", "pods_preload"];
        measure(cluster, PoolKind::Preload, &bare, &program, kinds, time, report).await?;
        bare.settle(None).await
    })
    .await?;
    measure_reuse(cluster, time, report).await
}

/// Counts the executions of one user on Pods that serve him again.
async fn measure_reuse(cluster: &Cluster, time: Duration, report: &mut Report) -> Result<()> {
    WarmPool::with(cluster, i32::try_from(REPLICAS)?, PoolKind::Reuse, async |pool| {
        let time = time * u32::try_from(TURNS)?;
        let executed = count(time, async || pool.run("print(1)", "1\n").await.map(drop)).await?;
        report.add_rate("sustained_reuse", executed, time);
        Ok(())
    })
    .await
}

/// Counts the executions of a program on a pool, and bare Pods.
async fn measure(
    cluster: &Cluster,
    pool: PoolKind,
    bare: &PodFloor,
    program: &str,
    [executions, pods]: [&'static str; 2],
    time: Duration,
    report: &mut Report,
) -> Result<()> {
    WarmPool::with(cluster, i32::try_from(REPLICAS)?, pool, async |pool| {
        let (mut executed, mut started) = (0, 0);
        for _ in 0..TURNS {
            bare.settle(None).await?;
            pool.is_full().await?;
            started += count(time, async || bare.sample().await.map(drop)).await?;
            bare.settle(None).await?;
            pool.is_full().await?;
            executed += count(time, async || pool.run(program, "1\n").await.map(drop)).await?;
        }
        let turns = u32::try_from(TURNS)?;
        report.add_rate(executions, executed, time * turns);
        report.add_rate(pods, started, time * turns);
        Ok(())
    })
    .await
}

/// How many of them end within `time`, with one begun by each client whenever its last one has ended.
async fn count(time: Duration, one: impl AsyncFn() -> Result<()>) -> Result<usize> {
    let window = RefCell::new(Window::new(time));
    let clients = (0..CLIENTS).map(async |_| {
        loop {
            one().await?;
            if !window.borrow_mut().goes_on_after(Instant::now()) {
                return anyhow::Ok(());
            }
        }
    });
    try_join_all(clients).await?;
    Ok(window.into_inner().ended)
}

/// Counts what ends within a time that begins after a lead-in.
struct Window {
    time: Duration,
    lead_in: usize,
    began: Option<Instant>,
    ended: usize,
}

impl Window {
    fn new(time: Duration) -> Self {
        Self {
            time,
            lead_in: LEAD_IN,
            began: None,
            ended: 0,
        }
    }

    /// Takes in that one has ended; whether another one should begin.
    fn goes_on_after(&mut self, now: Instant) -> bool {
        let Some(began) = self.began else {
            self.lead_in -= 1;
            self.began = (self.lead_in == 0).then_some(now);
            return true;
        };
        let is_within = now.saturating_duration_since(began) <= self.time;
        self.ended += usize::from(is_within);
        is_within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ready_beforehand_does_not_count() {
        let began = Instant::now();
        let mut window = Window::new(Duration::from_secs(10));
        for _ in 0..LEAD_IN {
            assert!(window.goes_on_after(began));
        }
        assert_eq!(window.ended, 0);
        assert!(window.goes_on_after(began + Duration::from_secs(1)));
        assert!(window.goes_on_after(began + Duration::from_secs(10)));
        assert_eq!(window.ended, 2);
    }

    #[test]
    fn what_ends_too_late_does_not_count_either() {
        let began = Instant::now();
        let mut window = Window::new(Duration::from_secs(10));
        for _ in 0..=LEAD_IN {
            window.goes_on_after(began);
        }
        let late = began + Duration::from_secs(11);
        assert!(!window.goes_on_after(late));
        assert!(!window.goes_on_after(late));
        assert_eq!(window.ended, 1);
    }
}
