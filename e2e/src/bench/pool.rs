//! A pool of the benchmark's own whose Pods are kept ready.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use codeexec_crds::{ExecutorPool, LABEL_EXECUTION, LABEL_POOL};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::{Cluster, Event, Events, Program, wait_until};

/// Longest that all Pods of a pool take to be ready, each of which may import for seconds with half a CPU.
const FILL_PATIENCE: Duration = Duration::from_secs(180);

/// For how long a pool must look full: the operator writes its status at most twice a second, so that what it
/// says may be from before the last claim.
const STATUS_LAG: Duration = Duration::from_millis(600);

/// What the Pods of a pool do besides waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// They import nothing.
    Plain,
    /// They import what a pool imports that does not say what.
    Preload,
    /// They import nothing, and serve the same user again.
    Reuse,
}

/// Makes its Pods ready, runs programs on them, and knows when they are all ready again.
pub struct WarmPool {
    cluster: Cluster,
    pools: Api<ExecutorPool>,
    name: String,
    replicas: i32,
}

impl WarmPool {
    /// Measures with such a pool, which is removed again however that ends.
    ///
    /// # Errors
    /// When Kubernetes refuses it, its Pods stay, or `measure` fails.
    pub async fn with<T>(
        cluster: &Cluster,
        replicas: i32,
        kind: PoolKind,
        measure: impl AsyncFnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        // The schema's defaults, which are not Rust's.
        let spec = serde_json::from_value(match kind {
            PoolKind::Plain => json!({"preload": []}),
            PoolKind::Preload => json!({}),
            PoolKind::Reuse => json!({"preload": [], "reuse": {"policy": "SameUser"}}),
        })?;
        let pool = Self {
            cluster: cluster.clone(),
            pools: cluster.beside_executions(),
            name: cluster.make_pool("bench", spec).await?,
            replicas,
        };
        let measured = async {
            pool.fill().await?;
            measure(&pool).await
        }
        .await;
        let removed = pool.remove().await;
        let measured = measured?;
        removed.map(|()| measured)
    }

    async fn fill(&self) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": self.replicas}}));
        self.pools
            .patch_scale(&self.name, &PatchParams::default(), &patch)
            .await?;
        self.is_full().await
    }

    async fn remove(&self) -> Result<()> {
        self.cluster.remove_pool(&self.name).await?;
        let what = format!("the Pods of pool {} are gone", self.name);
        let pods = self.cluster.executors();
        let all = self.all();
        wait_until(&what, FILL_PATIENCE, async || {
            Ok(pods.list_metadata(&all).await?.items.is_empty().then_some(()))
        })
        .await
    }

    /// Its Pods, whether idle or not.
    fn all(&self) -> ListParams {
        ListParams::default().labels(&format!("{LABEL_POOL}={}", self.name))
    }

    /// Those that no execution has.
    fn idle(&self) -> ListParams {
        ListParams::default().labels(&format!("{LABEL_POOL}={},!{LABEL_EXECUTION}", self.name))
    }

    async fn status_ready(&self) -> Result<i32> {
        let status = self.pools.get_status(&self.name).await?.status;
        Ok(status.map_or(0, |status| status.ready))
    }

    /// Waits until all its Pods are ready, and none is left that has served an execution.
    ///
    /// # Errors
    /// When they do not become ready, or one stays.
    pub async fn is_full(&self) -> Result<()> {
        let what = format!(
            "pool {} has its {} Pods ready, and no others",
            self.name, self.replicas
        );
        let mut since = None;
        wait_until(&what, FILL_PATIENCE, async || {
            if !self.looks_full().await? {
                since = None;
                return Ok(None);
            }
            let since = *since.get_or_insert_with(Instant::now);
            Ok((since.elapsed() >= STATUS_LAG).then_some(()))
        })
        .await
    }

    async fn looks_full(&self) -> Result<bool> {
        if self.status_ready().await? != self.replicas {
            return Ok(false);
        }
        let pods = self.cluster.executors().list_metadata(&self.all()).await?;
        let are_idle = pods.iter().all(|pod| {
            !pod.labels().contains_key(LABEL_EXECUTION) && pod.metadata.deletion_timestamp.is_none()
        });
        Ok(are_idle && i32::try_from(pods.items.len()) == Ok(self.replicas))
    }

    /// Names of its idle Pods.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn idle_pods(&self) -> Result<BTreeSet<String>> {
        let pods = self.cluster.executors().list_metadata(&self.idle()).await?;
        Ok(pods.iter().map(ResourceExt::name_any).collect())
    }

    /// Waits until the pool is making a Pod that is not one of these, and has one that is ready.
    ///
    /// # Errors
    /// When it makes none.
    pub async fn is_refilling(&self, before: &BTreeSet<String>) -> Result<()> {
        let what = format!("pool {} is making a Pod in place of one", self.name);
        wait_until(&what, FILL_PATIENCE, async || {
            let makes_one = !self.idle_pods().await?.is_subset(before);
            Ok((makes_one && self.status_ready().await? >= 1).then_some(()))
        })
        .await
    }

    /// Runs a program: from the request to its answer, which may come from a Pod that was not ready before.
    ///
    /// # Errors
    /// When it does not end well, or prints something else.
    pub async fn run(&self, code: &str, prints: &str) -> Result<(Duration, Value)> {
        let program = Program::new(code).pool(&self.name);
        let began = Instant::now();
        let answer = self.cluster.run(&program).await?;
        let took = began.elapsed();
        ensure!(answer["output"] == prints, "{answer}");
        Ok((took, answer))
    }

    /// Runs a program on a Pod that was ready before.
    ///
    /// # Errors
    /// When there was none, or it does not end as it should.
    pub async fn run_warm(&self, code: &str, prints: &str) -> Result<(Duration, Value)> {
        let (took, answer) = self.run(code, prints).await?;
        ensure!(
            answer["warm"] == true,
            "no Pod of the pool was ready for it: {answer}"
        );
        Ok((took, answer))
    }

    /// Begins a program on a Pod that was ready before, and follows it: from the request until the first that it prints
    /// is here. It has to go on for a while after that, or its result may come first.
    ///
    /// # Errors
    /// When there was no such Pod, or it does not end as it should.
    pub async fn follow_warm(&self, code: &str) -> Result<Duration> {
        let program = Program::new(code).pool(&self.name);
        let began = Instant::now();
        let id = self.cluster.begin(&program).await?;
        let mut events = Events::of(&self.cluster, "", &id, None).await?;
        events.until("output").await?;
        let took = began.elapsed();
        let (Event { data, .. }, _) = events.until("result").await?;
        ensure!(data["warm"] == true && data["status"] == "success", "{data}");
        Ok(took)
    }
}
