//! A pool for one test: made, filled, looked at, and removed however the test ends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use codeexec_crds::{
    ANNOTATION_OPERATOR, ANNOTATION_READY_SINCE, ExecutorPool, ExecutorPoolSpec, ExecutorPoolStatus,
    LABEL_EXECUTION, LABEL_POOL,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{Cluster, Program, operator, wait_until};

/// Longest that the Pods of a small pool take to be ready, or gone, on a small machine that does other things too.
pub const FILL_PATIENCE: Duration = Duration::from_secs(120);

/// For how long a pool must look full whose Pods don't all say that they are ready: what its status says is up to
/// two seconds old while executions are under way.
const STATUS_LAG: Duration = Duration::from_millis(2500);

/// What a pool is to be. Its Pods import nothing beforehand unless it says so.
#[derive(Clone, Debug)]
pub struct PoolOf {
    replicas: i32,
    spec: ExecutorPoolSpec,
}

/// A pool that exists.
pub struct Pool {
    cluster: Cluster,
    api: Api<ExecutorPool>,
    name: String,
}

impl PoolOf {
    /// So many idle Pods.
    #[must_use]
    pub fn pods(replicas: i32) -> Self {
        let spec = ExecutorPoolSpec {
            preload: Some(Vec::new()),
            // The schema's defaults, which are not Rust's.
            max_idle_seconds: 3600,
            queue_limit: ExecutorPoolSpec::DEFAULT_QUEUE_LIMIT,
            ..ExecutorPoolSpec::default()
        };
        Self { replicas, spec }
    }

    /// With another spec than a pool has by itself.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ExecutorPoolSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Makes the pool, runs `test` on it, and removes it however that ends.
    ///
    /// # Errors
    /// When Kubernetes refuses it, `test` fails, or its idle Pods stay.
    pub async fn run<T>(self, cluster: &Cluster, test: impl AsyncFnOnce(&Pool) -> Result<T>) -> Result<T> {
        let pool = Pool {
            cluster: cluster.clone(),
            api: cluster.beside_executions(),
            name: cluster.make_pool("pool", self.spec).await?,
        };
        let tested = async {
            if self.replicas > 0 {
                pool.scale(self.replicas).await?;
            }
            test(&pool).await
        }
        .await;
        let removed = pool.remove().await;
        let tested = tested?;
        removed.map(|()| tested)
    }

    /// The same, with `test` begun when all its Pods are ready.
    ///
    /// # Errors
    /// As above, and when they don't get ready.
    pub async fn run_full<T>(
        self,
        cluster: &Cluster,
        test: impl AsyncFnOnce(&Pool) -> Result<T>,
    ) -> Result<T> {
        self.run(cluster, async |pool| {
            pool.is_full().await?;
            test(pool).await
        })
        .await
    }
}

impl Pool {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program that it runs.
    #[must_use]
    pub fn program(&self, code: impl Into<String>) -> Program {
        Program::new(code).pool(&self.name)
    }

    /// The object.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn object(&self) -> Result<ExecutorPool> {
        Ok(self.api.get(&self.name).await?)
    }

    /// Its status.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn status(&self) -> Result<ExecutorPoolStatus> {
        Ok(self.object().await?.status.unwrap_or_default())
    }

    /// Its condition `Ready`, if it was written for the spec as it is now.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn ready_condition(&self) -> Result<Option<Condition>> {
        let object = self.object().await?;
        let conditions = object.status.and_then(|status| status.conditions);
        Ok(conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready")
            .filter(|condition| condition.observed_generation == object.metadata.generation))
    }

    /// Changes how many Pods it keeps, through the scale subresource.
    ///
    /// # Errors
    /// When Kubernetes refuses it.
    pub async fn scale(&self, replicas: i32) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.api
            .patch_scale(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Changes its spec.
    ///
    /// # Errors
    /// When Kubernetes refuses it.
    pub async fn change(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api
            .patch(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Deletes it and waits until its idle Pods are gone.
    ///
    /// # Errors
    /// When they stay.
    pub async fn remove(&self) -> Result<()> {
        // A test may have removed it already.
        if self.api.get_opt(&self.name).await?.is_some() {
            self.cluster.remove_pool(&self.name).await?;
        }
        let what = format!("the idle Pods of pool {} are gone", self.name);
        wait_until(&what, FILL_PATIENCE, async || {
            Ok(self.idle_pods().await?.is_empty().then_some(()))
        })
        .await
    }

    /// All its Pods, claimed ones as well.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        self.list("").await
    }

    /// Those that no execution has.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn idle_pods(&self) -> Result<Vec<Pod>> {
        self.list(&format!(",!{LABEL_EXECUTION}")).await
    }

    async fn list(&self, and: &str) -> Result<Vec<Pod>> {
        let selector = format!("{LABEL_POOL}={}{and}", self.name);
        let pods = self.cluster.executors();
        Ok(pods.list(&ListParams::default().labels(&selector)).await?.items)
    }

    /// Waits until all its Pods are ready for the operator that leads, and none is left that has served an
    /// execution.
    ///
    /// # Errors
    /// When they do not become ready, or one stays.
    pub async fn is_full(&self) -> Result<()> {
        let what = format!("pool {} has all its Pods ready, and no others", self.name);
        let mut since = None;
        let mut last = String::new();
        let full = wait_until(&what, FILL_PATIENCE, async || {
            let (full, all_say_so, seen) = self.look().await?;
            last = seen;
            if !full {
                since = None;
                return Ok(None);
            }
            let since = *since.get_or_insert_with(Instant::now);
            Ok((all_say_so || since.elapsed() >= STATUS_LAG).then_some(()))
        })
        .await;
        full.with_context(|| format!("last seen: {last}"))
    }

    /// Whether it looks full, whether each of its Pods says that it is ready, and what was seen.
    async fn look(&self) -> Result<(bool, bool, String)> {
        let object = self.object().await?;
        let (wanted, generation) = (object.spec.replicas, object.metadata.generation);
        let status = object.status.unwrap_or_default();
        let conditions = status.conditions.iter().flatten();
        let is_of_today = conditions
            .filter(|condition| condition.type_ == "Ready")
            .any(|condition| condition.observed_generation == generation && condition.status == "True");
        let pods = self.pods().await?;
        // Another one than made them gives them its name before it uses them.
        let leader = operator::leader(&self.cluster).await.unwrap_or_default();
        let is_idle = |pod: &Pod| {
            !pod.labels().contains_key(LABEL_EXECUTION)
                && pod.metadata.deletion_timestamp.is_none()
                && pod.annotations().get(ANNOTATION_OPERATOR) == Some(&leader)
        };
        let full = is_of_today
            && status.ready == wanted
            && pods.iter().all(is_idle)
            && i32::try_from(pods.len()) == Ok(wanted);
        let all_say_so = pods
            .iter()
            .all(|pod| pod.annotations().contains_key(ANNOTATION_READY_SINCE));
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        Ok((
            full,
            all_say_so,
            format!("{wanted} wanted, {names:?}, {status:?}"),
        ))
    }

    /// Counts its Pods from now on, those that exist included.
    #[must_use]
    pub fn count_pods(&self) -> PodCount {
        let seen = Arc::<Mutex<BTreeSet<String>>>::default();
        let config = watcher::Config::default().labels(&format!("{LABEL_POOL}={}", self.name));
        let (api, names) = (self.cluster.executors(), seen.clone());
        let watch = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
            while let Some(event) = events.next().await {
                if let Ok(pod) = event {
                    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                    names.insert(pod.name_any());
                }
            }
        });
        PodCount { seen, watch }
    }
}

/// Counts a pool's Pods until it is dropped.
#[derive(Debug)]
pub struct PodCount {
    seen: Arc<Mutex<BTreeSet<String>>>,
    watch: JoinHandle<()>,
}

impl PodCount {
    /// How many different ones there were so far.
    #[must_use]
    pub fn so_far(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for PodCount {
    fn drop(&mut self) {
        self.watch.abort();
    }
}
