//! Watches on executions and Pods, as plain events.

use std::sync::Arc;

use codeexec_crds::{CodeExecution, ExecutorPool, LABEL_MANAGED_BY, LABEL_PHASE, MANAGED_BY, Phase};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta, error_boundary::InvalidObject};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

use crate::observe::PodView;

/// A load balancer with a short idle limit silences a watch without a word; one that ends by itself does not
/// get that old. Seconds.
const WATCH_SECONDS: u32 = 200;

/// What a watch says.
#[derive(Debug)]
pub enum Change<T> {
    /// A new list begins.
    Restarted,
    /// This is there.
    Present(T),
    /// This is gone.
    Gone(T),
    /// Everything of the new list was told; what was not is gone.
    Listed,
}

/// Pods that the operator made.
pub fn pods(api: Api<Pod>) -> impl Stream<Item = Change<PodView>> + Send {
    let config = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    changes(api, config).map(|change| match change {
        Change::Restarted => Change::Restarted,
        Change::Present(pod) => Change::Present(PodView::from(&pod)),
        Change::Gone(pod) => Change::Gone(PodView::from(&pod)),
        Change::Listed => Change::Listed,
    })
}

/// Executions that have no result yet; one that gets it counts as gone.
///
/// A malformed object, or one of a future version, comes as an error of its own and stalls nothing.
pub fn unfinished(
    api: Api<DeserializeGuard<CodeExecution>>,
) -> impl Stream<Item = Change<Result<Arc<CodeExecution>, Box<InvalidObject>>>> + Send {
    let selector = Phase::TERMINAL
        .map(|phase| format!("status.phase!={}", phase.as_str()))
        .join(",");
    let config = watcher::Config::default().fields(&selector);
    changes(api, config).map(|change| {
        let open = |DeserializeGuard(result): DeserializeGuard<CodeExecution>| {
            result.map(Arc::new).map_err(Box::new)
        };
        match change {
            Change::Restarted => Change::Restarted,
            Change::Present(object) => Change::Present(open(object)),
            Change::Gone(object) => Change::Gone(open(object)),
            Change::Listed => Change::Listed,
        }
    })
}

/// All pools.
pub fn pools(api: Api<ExecutorPool>) -> impl Stream<Item = Change<ExecutorPool>> + Send {
    changes(api, watcher::Config::default())
}

/// Finished executions, without spec and status.
pub fn finished(
    api: Api<PartialObjectMeta<CodeExecution>>,
) -> impl Stream<Item = Change<PartialObjectMeta<CodeExecution>>> + Send {
    changes(api, watcher::Config::default().labels(LABEL_PHASE))
}

/// Every watch goes on for ever: what breaks is begun anew, after a pause that grows.
fn changes<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Change<K>> + Send
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config.timeout(WATCH_SECONDS))
        .default_backoff()
        .filter_map(|event| async move {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    Some(Change::Present(object))
                }
                Ok(watcher::Event::Delete(object)) => Some(Change::Gone(object)),
                Ok(watcher::Event::Init) => Some(Change::Restarted),
                Ok(watcher::Event::InitDone) => Some(Change::Listed),
                Err(error) => {
                    tracing::warn!(%error, "a watch broke");
                    None
                }
            }
        })
}
