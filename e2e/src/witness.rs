//! Counts which Pods started which program, from the only place that can't be lied to: their logs.
//!
//! ```text
//!   watch of all executor Pods ──▶ one follower per Pod ──▶ its log ──▶ frames ──▶ uids started
//! ```
//!
//! A status says what the operator believes; that a program ran twice would show in the logs alone. A Pod is
//! deleted right after its result, and its log with it, so the followers begin before its container does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use codeexec_crds::{CodeExecution, LABEL_EXECUTION, LABEL_MANAGED_BY, MANAGED_BY};
use codeexec_runner::frames::{Decoder, FromRunner};
use futures::{AsyncReadExt, StreamExt};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::task::{JoinHandle, JoinSet};

use crate::{Cluster, wait_until};

/// How long a follower asks again for the log of a container that has not started.
const RETRY: Duration = Duration::from_millis(30);

/// What is known of one Pod.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Its name.
    name: String,
    /// The execution it was claimed for.
    claimed_by: Option<String>,
    /// Whether its container ever ran, so that it has a log.
    container_ran: bool,
    /// Whether its log was read to the end.
    read: bool,
    /// Frames in what was read of it.
    frames: usize,
    /// The uids in the `started` frames of its log.
    started: BTreeSet<String>,
    /// The uids in the `result` frames of its log.
    ended: BTreeSet<String>,
}

impl Seen {
    fn is_for(&self, uid: &str) -> bool {
        self.claimed_by.as_deref() == Some(uid)
    }
}

type Pods = Arc<Mutex<BTreeMap<String, Seen>>>;

/// Reads the log of every executor Pod from now on.
#[derive(Debug)]
pub struct Witness {
    pods: Pods,
    watch: JoinHandle<()>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Witness {
    /// Begins, and returns when no later Pod can be missed.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let api = cluster.executors();
        let pods = Pods::default();
        let (ready_tx, ready_rx) = tokio::sync::oneshot::channel();
        let watch = tokio::spawn(watch(api, pods.clone(), ready_tx));
        ready_rx.await?;
        Ok(Self { pods, watch })
    }

    /// Checks that exactly one of all Pods ever seen started this program.
    ///
    /// The kubelet ends a follower at the end of the file once the container is gone, and what was written between the
    /// two is lost with the Pod. So it may have been the only Pod that was ever made for it, although its log, which is
    /// cut off, does not say so.
    ///
    /// # Errors
    /// When none did, or more than one, or a log that could tell was not read.
    pub async fn saw_it_start_once(&self, execution: &CodeExecution) -> Result<()> {
        let started = self.starts_of(execution).await?;
        let uid = execution.uid().unwrap_or_default();
        let made = self.count(|pod| pod.is_for(&uid));
        let cut_off = self.count(|pod| pod.is_for(&uid) && pod.container_ran && !pod.ended.contains(&uid));
        let was_the_only_one = started.is_empty() && (made, cut_off) == (1, 1);
        ensure!(
            started.len() == 1 || was_the_only_one,
            "execution {} was started by {} Pods: {started:?}",
            execution.name_any(),
            started.len()
        );
        Ok(())
    }

    /// The Pods that started this program.
    ///
    /// # Errors
    /// When a log that could tell was not read.
    async fn starts_of(&self, execution: &CodeExecution) -> Result<Vec<String>> {
        let uid = execution.uid().unwrap_or_default();
        let name = execution.name_any();
        // A follower ends a moment after its Pod.
        wait_until(
            &format!("the logs of the Pods of execution {name} are read"),
            Duration::from_secs(30),
            async || {
                let unread = self.count(|pod| pod.is_for(&uid) && pod.container_ran && !pod.read);
                Ok((unread == 0).then_some(()))
            },
        )
        .await?;
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(pods
            .values()
            .filter(|pod| pod.started.contains(&uid))
            .map(|pod| pod.name.clone())
            .collect())
    }

    fn count(&self, which: impl Fn(&Seen) -> bool) -> usize {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().filter(|pod| which(pod)).count()
    }
}

async fn watch(api: Api<Pod>, pods: Pods, ready_tx: tokio::sync::oneshot::Sender<()>) {
    let config = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    let mut events = std::pin::pin!(watcher(api.clone(), config).default_backoff());
    let mut ready_tx = Some(ready_tx);
    let mut followers = JoinSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                if note(&pods, &pod) {
                    followers.spawn(follow(api.clone(), pods.clone(), pod));
                }
            }
            // Its last state may be the first that shows the container.
            Ok(watcher::Event::Delete(pod)) => {
                note(&pods, &pod);
            }
            Ok(watcher::Event::InitDone) => {
                if let Some(ready_tx) = ready_tx.take() {
                    let _ = ready_tx.send(());
                }
            }
            Ok(watcher::Event::Init) | Err(_) => {}
        }
    }
}

/// Takes down what a Pod's state says and returns whether it is a new one.
fn note(pods: &Pods, pod: &Pod) -> bool {
    let uid = pod.uid().unwrap_or_default();
    let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
    let new = !pods.contains_key(&uid);
    let seen = pods.entry(uid).or_default();
    seen.name = pod.name_any();
    if let Some(execution) = pod.labels().get(LABEL_EXECUTION) {
        seen.claimed_by = Some(execution.clone());
    }
    seen.container_ran |= container_states(pod).any(|state| {
        state.running.is_some()
            || state
                .terminated
                .as_ref()
                .is_some_and(|end| end.started_at.is_some())
    });
    new
}

async fn follow(api: Api<Pod>, pods: Pods, pod: Pod) {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    loop {
        // A stream also ends early: opened before the container's start, at a rotation, when the kubelet
        // restarts. So the last word has one that was opened after the container's end.
        let had_ended = match api.get_opt(&name).await {
            Ok(Some(pod)) => has_ended(&pod),
            Ok(None) => break,
            Err(_) => false,
        };
        if let Ok(log) = api.log_stream(&name, &params).await
            && read(&pods, &uid, log).await
            && had_ended
        {
            break;
        }
        tokio::time::sleep(RETRY).await;
    }
    let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = pods.entry(uid).or_default();
    // A runner prints that it is ready before anything else: a log without that was missed.
    seen.read = seen.frames > 0;
}

/// Reads one log stream and returns whether it came to its end.
async fn read(pods: &Pods, uid: &str, log: impl futures::AsyncRead) -> bool {
    let mut log = std::pin::pin!(log);
    let mut decoder = Decoder::<FromRunner>::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match log.read(&mut buffer).await {
            Ok(0) => return true,
            Ok(length) => length,
            Err(_) => return false,
        };
        for frame in decoder.push(&buffer[..length]) {
            let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = pods.entry(uid.to_owned()).or_default();
            seen.frames += 1;
            match frame {
                FromRunner::Started(started) => drop(seen.started.insert(started.uid)),
                FromRunner::Result(result) => drop(seen.ended.insert(result.uid)),
                FromRunner::Ready(_) | FromRunner::Output(_) | FromRunner::File(_) => {}
            }
        }
    }
}

fn has_ended(pod: &Pod) -> bool {
    container_states(pod).any(|state| state.terminated.is_some())
}

fn container_states(pod: &Pod) -> impl Iterator<Item = &ContainerState> {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.filter_map(|status| status.state.as_ref())
}
