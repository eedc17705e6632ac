//! Keeps each pool as its object says: makes, replaces and deletes idle Pods, and writes how the pool stands.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_crds::{
    ANNOTATION_READY_SINCE, ExecutorPool, ExecutorPoolStatus, LABEL_EXECUTION, LABEL_MANAGED_BY,
    LABEL_TEMPLATE, MANAGED_BY,
};
use codeexec_execution::isolation::Layer;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use tracing::{debug, info, warn};

use super::idle::IdlePod;
use super::plan::{Idle, Plan, QUIET, Seen, plan};
use super::state::{Pool, Pools};
use super::status::status;
use crate::connection::{CallError, call};
use crate::driver::Context;
use crate::observe::PodView;
use crate::pod::{GRACE_SECONDS, Template};
use crate::watch::{self as watches, Change};

/// How often everything is looked at where nothing happens: a Pod grows old, or stays silent.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Pause before a write or deletion that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Tries to delete an idle Pod; the next look tries again.
const DELETE_TRIES: u32 = 5;

/// Makes every idle Pod this process's own, before it claims the first of them.
///
/// A process that led before, and was only stopped, may still be about to claim one. Its claim names the Pod's
/// version, which the write here changes: either that claim comes first, and is seen in the answer, or it fails.
pub async fn adopt(context: &Context) {
    let selector = format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_TEMPLATE},!{LABEL_EXECUTION}");
    loop {
        let listed = call(context.pods.list(&ListParams::default().labels(&selector))).await;
        let pods = match listed {
            Ok(list) => list.items,
            Err(error) => {
                warn!(%error, "could not list the idle Pods");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let mut left = false;
        for pod in pods {
            let view = PodView::from(&pod);
            if view.operator.as_deref() != Some(&context.holder) {
                left |= !adopt_one(context, &view).await;
            }
        }
        if !left {
            return;
        }
    }
}

/// Whether nobody else can claim the Pod any more.
async fn adopt_one(context: &Context, view: &PodView) -> bool {
    let patch = json!({"metadata": {
        "resourceVersion": view.resource_version,
        "annotations": {codeexec_crds::ANNOTATION_OPERATOR: context.holder},
    }});
    match call(
        context
            .pods
            .patch(&view.name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(_) => true,
        Err(error) if error.is_not_found() => true,
        // Somebody wrote meanwhile, perhaps a claim: the next list tells.
        Err(error) if error.status() == Some(409) => false,
        Err(error) => {
            warn!(pod = view.name, %error, "could not take over an idle Pod");
            tokio::time::sleep(RETRY).await;
            false
        }
    }
}

/// Works for ever.
pub async fn run(context: Arc<Context>) {
    context.pools.until_pods_are_known().await;
    let mut objects = pin!(watches::pools(context.pool_api.clone()));
    let mut listed = HashSet::new();
    loop {
        let again = look(&context);
        tokio::select! {
            Some(change) = objects.next() => on_object(&context, change, &mut listed),
            () = context.pools.changed.notified() => {}
            () = tokio::time::sleep(again) => {}
        }
    }
}

fn on_object(context: &Context, change: Change<ExecutorPool>, listed: &mut HashSet<String>) {
    let mut pools = context.pools.lock();
    match change {
        Change::Restarted => listed.clear(),
        Change::Present(object) => {
            let name = object.name_any();
            listed.insert(name.clone());
            let pool = pools.entry(name).or_default();
            let spec_changed = pool.object.as_ref().is_none_or(|known| known.spec != object.spec);
            if spec_changed {
                pool.template = Some(
                    Template {
                        settings: &context.settings,
                        pool: &object.spec,
                        host_users: None,
                    }
                    .fingerprint(),
                );
                pool.waits_for_network = context.settings.isolation_require.contains(&Layer::NetworkPolicy);
                // Whatever kept the Pods from coming up may have been mended.
                pool.pause_until = None;
            }
            pool.object = Some(Arc::new(object));
            pool.advance();
        }
        Change::Gone(object) => {
            if let Some(pool) = pools.get_mut(&object.name_any()) {
                pool.object = None;
            }
        }
        Change::Listed => {
            let gone = pools.iter_mut().filter(|(name, _)| !listed.contains(*name));
            gone.for_each(|(_, pool)| pool.object = None);
        }
    }
}

/// Does what each pool needs now; how long nothing else will be needed if nothing happens.
fn look(context: &Arc<Context>) -> Duration {
    let now = Instant::now();
    let mut pools = context.pools.lock();
    let quiet_for = Pools::quiet_for(&pools);
    let is_quiet = quiet_for.is_some_and(|quiet| quiet >= QUIET);
    let mut again = LOOK_EVERY;
    for (name, pool) in pools.iter_mut() {
        pool.advance();
        let plan = plan(&seen(pool, quiet_for, now));
        again = again.min(plan.again.unwrap_or(LOOK_EVERY));
        again = again.min(pool.returning.until_overdue().unwrap_or(LOOK_EVERY));
        carry_out(context, name, pool, plan);
        if is_quiet {
            mark_ready(context, pool);
        }
        let (reuse, most) = (pool.reuse(), pool.wanted().max(1));
        for warm in pool.used.expired(reuse, most) {
            tokio::spawn(delete_used(context.clone(), warm.view.name));
        }
        again = again.min(tell(context, name, pool, is_quiet).unwrap_or(LOOK_EVERY));
    }
    // A pool that never existed, or is gone with all that was in it.
    pools.retain(|_, pool| pool.object.is_some() || !pool.is_empty());
    again
}

fn seen(pool: &mut Pool, quiet_for: Option<Duration>, now: Instant) -> Seen {
    let failure = pool.idle.values().find_map(IdlePod::failure);
    if let Some(message) = failure {
        pool.failed("PodsFail", message);
    }
    let wanted = pool.wanted();
    let waits = pool.waits_for_network;
    let max_age = Duration::from_secs(
        pool.object
            .as_ref()
            .map_or(0, |object| object.spec.max_idle_seconds.unsigned_abs()),
    );
    let mut idle: Vec<&IdlePod> = pool.idle.values().collect();
    idle.sort_by_key(|idle| idle.view.created);
    let today = Timestamp::now();
    let mut idle: Vec<Idle> = idle
        .into_iter()
        .map(|idle| Idle {
            name: idle.view.name.clone(),
            ready: idle.is_ready(waits),
            current: idle.view.template == pool.template && idle.view.age(today) < max_age,
            ended: idle.is_over(),
        })
        .collect();
    idle.extend((0..pool.creating).map(|_| Idle {
        current: true,
        ..Idle::default()
    }));
    let short = idle.iter().filter(|idle| idle.current && !idle.ended).count() < wanted;
    let short_since = short.then(|| pool.short_since.unwrap_or(now));
    pool.short_since = short_since;
    Seen {
        wanted,
        idle,
        cold_starts: pool.cold_starts(),
        quiet_for,
        short_for: short_since.map_or(Duration::ZERO, |since| now - since),
        pause: pool
            .pause_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now)),
    }
}

fn carry_out(context: &Arc<Context>, name: &str, pool: &mut Pool, plan: Plan) {
    for pod in plan.delete.into_iter().filter(|pod| !pod.is_empty()) {
        pool.take_out(&pod);
        tokio::spawn(delete(context.clone(), pod));
    }
    if let Some(object) = &pool.object {
        pool.creating += plan.create;
        for _ in 0..plan.create {
            tokio::spawn(create(context.clone(), name.to_owned(), object.clone()));
        }
    }
}

/// Says on each Pod that it is ready. The kubelet answers the first change of a Pod's metadata by writing its whole
/// status again (Kubernetes 1.37): better now than at the claim.
fn mark_ready(context: &Arc<Context>, pool: &mut Pool) {
    for idle in pool.idle.values_mut() {
        if idle.begin_mark() {
            let (context, name) = (context.clone(), idle.view.name.clone());
            tokio::spawn(async move {
                let since = format!("{:.0}", Timestamp::now());
                let patch = json!({"metadata": {"annotations": {ANNOTATION_READY_SINCE: since}}});
                let params = PatchParams::default();
                // Nothing depends on it.
                if let Err(error) =
                    call(context.pods.patch_metadata(&name, &params, &Patch::Merge(&patch))).await
                {
                    debug!(pod = name, %error, "could not mark an idle Pod as ready");
                }
            });
        }
    }
}

async fn create(context: Arc<Context>, name: String, object: Arc<ExecutorPool>) {
    let template = Template {
        settings: &context.settings,
        pool: &object.spec,
        host_users: context.user_namespaces.host_users(&context, &object.spec).await,
    };
    let pod = format!("idle-{:016x}", rand::random::<u64>());
    let prepared = template.for_pool(&object, &pod, &context.holder);
    let created = call(context.pods.create(&PostParams::default(), prepared.object())).await;
    match &created {
        Ok(pod) => context.pools.on_idle_pod(&context, PodView::from(pod)),
        Err(error) => warn!(pool = name, %error, "could not create an idle Pod"),
    }
    let mut pools = context.pools.lock();
    let Some(pool) = pools.get_mut(&name) else { return };
    pool.creating = pool.creating.saturating_sub(1);
    if let Err(error) = created {
        let message = error.message();
        let reason = if message.contains("exceeded quota") {
            "QuotaExceeded"
        } else {
            "PodsRefused"
        };
        pool.failed(reason, message);
    }
    drop(pools);
    context.pools.look_again();
}

/// Deletes an idle Pod that nobody has claimed.
pub async fn delete(context: Arc<Context>, name: String) {
    for _ in 0..DELETE_TRIES {
        match delete_once(&context, &name).await {
            Ok(()) => return,
            Err(error) if error.is_not_found() => return,
            // Somebody wrote since: its version is looked up again.
            Err(error) => debug!(pod = name, %error, "could not delete an idle Pod yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    context.pools.forget_pod(&name, true);
}

/// Deletes a Pod that has served, and that nobody claims any more: it was taken out of the only list there is.
async fn delete_used(context: Arc<Context>, name: String) {
    for _ in 0..DELETE_TRIES {
        let params = DeleteParams::default().grace_period(GRACE_SECONDS);
        match call(context.pods.delete(&name, &params)).await {
            Err(error) if !error.is_not_found() => {
                debug!(pod = name, %error, "could not delete a used Pod yet");
            }
            _ => return,
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn delete_once(context: &Context, name: &str) -> Result<(), CallError> {
    let pod: Pod = call(context.pods.get(name)).await?;
    let view = PodView::from(&pod);
    if !view.is_idle() || view.deleting {
        return Ok(());
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            resource_version: pod.metadata.resource_version,
            uid: pod.metadata.uid,
        }),
        ..DeleteParams::default().grace_period(GRACE_SECONDS)
    };
    call(context.pods.delete(name, &params)).await?;
    info!(pod = name, "deleted an idle Pod");
    Ok(())
}

/// Begins to write a pool's status where there is news; how long it has to wait otherwise.
fn tell(context: &Arc<Context>, name: &str, pool: &mut Pool, quiet: bool) -> Option<Duration> {
    pool.object.as_ref()?;
    let required = &context.settings.isolation_require;
    let status = status(name, pool, &context.reports, required, Timestamp::now());
    let wanted = i32::try_from(pool.wanted()).unwrap_or(i32::MAX);
    context.metrics.pool(name, wanted, &status);
    let due = pool.told.due(&status, quiet)?;
    if due.is_zero() {
        pool.told.begin(&status);
        tokio::spawn(write(context.clone(), name.to_owned(), status));
        return None;
    }
    Some(due)
}

async fn write(context: Arc<Context>, name: String, status: ExecutorPoolStatus) {
    let patch = json!({"status": status});
    let written = call(
        context
            .pool_api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await;
    if let Err(error) = &written
        && !error.is_not_found()
    {
        warn!(pool = name, %error, "could not write how the pool stands");
        tokio::time::sleep(RETRY).await;
    }
    if let Some(pool) = context.pools.lock().get_mut(&name) {
        pool.told.end(written.is_ok());
    }
    context.pools.look_again();
}
