//! The end of an execution: its result written once, then what can wait.

use std::time::Duration;

use codeexec_crds::{ANNOTATION_TRACEPARENT, CodeExecutionStatus, Phase, StoredBytes};
use codeexec_execution::outcome::{End, status};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tracing::warn;

use super::Driver;
use crate::connection::{CallError, call};
use crate::etcd::{Room, summary};
use crate::pool::ComingBack;
use crate::pool::report::report;
use crate::records::{Written, cut, label_finished, result_patch, write_status};
use crate::step::PodState;

/// Longest pause between tries to write a result while the Kubernetes API is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the kubelet's first word on a Pod may take.
const DIGEST_PATIENCE: Duration = Duration::from_secs(3);

/// How long labels and the Pod's end wait at most for a moment in which they hold up no other execution.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(1);

/// Tries to write the labels; what is still missing then is made up for when a leader begins.
const LABEL_TRIES: u32 = 5;

impl Driver {
    /// Writes the result. Comes back only when a result stands, ours (whose phase it returns) or another's, or
    /// the object is gone.
    pub(super) async fn finish(&mut self, end: &End) -> Option<Phase> {
        let now = Timestamp::now();
        let mut status = status(&self.execution.spec, end, &self.transcript, self.facts(now), now);
        let (room, mut stored) = self.fit(&mut status);
        let mut refused = false;
        self.failpoint.hit("before-result-write");
        let mut pause = Duration::from_millis(100);
        loop {
            let patch = result_patch(&status);
            let api = &self.context.executions;
            match write_status(api, &self.name, &self.uid, &self.resource_version, &patch).await {
                Ok(Written::Yes(_)) => {
                    self.failpoint.hit("after-result-write");
                    self.audit_end(&status);
                    if refused {
                        stored = self.measure(&status);
                        self.context.metrics.storage.cut("part", "refused");
                    } else if room != Room::Whole {
                        self.context.metrics.storage.cut(room.as_str(), "writes");
                    }
                    self.note_end(&mut status, stored);
                    return status.phase;
                }
                Ok(Written::AlreadyFinished(object)) => {
                    self.ended_elsewhere(&object);
                    return None;
                }
                // The record was deleted while its program ran; that it did is to be told all the same.
                Ok(Written::Gone) => {
                    self.audit_end(&status);
                    return None;
                }
                Err(error) if is_too_large(&error) && cut(&mut status) => refused = true,
                Err(error) => {
                    if is_too_large(&error) {
                        without_output(&mut status, &error);
                        refused = true;
                    }
                    warn!(execution = self.name, %error, "could not write the result yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Counts a result that stands, and keeps what is told of it later.
    fn note_end(&mut self, status: &mut CodeExecutionStatus, stored: StoredBytes) {
        self.context
            .metrics
            .executions
            .ended(self.claimed.is_some(), status);
        if let Some(tracing) = &self.context.tracing {
            let annotations = self.execution.metadata.annotations.as_ref();
            let parent = annotations.and_then(|all| all.get(ANNOTATION_TRACEPARENT));
            tracing.execution(parent.map(String::as_str), &self.name, status);
        }
        self.summary = Some(summary(&self.execution.spec.user, status, stored));
        self.failure = status.reason.zip(status.error.take());
        self.isolation_seen = status.isolation.take();
        self.digest_missing = status.image_digest.is_none();
    }

    /// What no client waits for: the labels of a finished record, and its Pod's end.
    pub(super) async fn clean_up(mut self, phase: Option<Phase>, coming_back: Option<ComingBack>) {
        let handed_on = match coming_back {
            Some(coming_back) if phase.is_some() => self.hand_on(coming_back).await,
            _ => false,
        };
        self.session = None;
        self.context.pools.quiet(CLEAN_UP_PATIENCE).await;
        self.failpoint.hit("before-labels");
        if phase.is_some() && self.digest_missing {
            self.add_image_digest().await;
        }
        // Before the labels: a new leader writes the line of what has none.
        self.write_audit();
        if let Some((phase, summary)) = phase.zip(self.summary.as_ref()) {
            let ttl = self.execution.spec.ttl_seconds_after_finished;
            for _ in 0..LABEL_TRIES {
                match label_finished(&self.context.executions, &self.name, phase, ttl, summary).await {
                    Ok(()) => break,
                    Err(error) => {
                        self.pause_after(&error, "could not label the finished record")
                            .await;
                    }
                }
            }
        }
        if !handed_on {
            self.delete_ended_pod().await;
        }
        if let Some((reason, error)) = &self.failure {
            let (context, execution) = (&self.context, &self.execution);
            context
                .failures
                .tell(execution, *reason, error, &context.metrics)
                .await;
        }
        if let Some(isolation) = &self.isolation_seen {
            report(&self.context, &self.execution.spec.pool, isolation);
        }
    }

    /// Makes up for a digest that was not known when the result was written: that of a node's first Pod with an
    /// image, where the program ended before the kubelet's first word on it.
    async fn add_image_digest(&mut self) {
        let learn = async {
            loop {
                let PodState::Exists(view) = &self.observed.pod else {
                    return None;
                };
                if let Some(digest) = self.context.images.digest(view) {
                    return Some(digest);
                }
                let update = self.pods_rx.recv().await?;
                self.on_pod(update);
            }
        };
        // Without an answer the record stays without it.
        if let Ok(Some(digest)) = tokio::time::timeout(DIGEST_PATIENCE, learn).await {
            self.audited = self.audited.take().map(|line| line.with_image_digest(&digest));
            let patch = json!({"status": {"imageDigest": digest}});
            let api = &self.context.executions;
            let written =
                call(api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&patch))).await;
            match written {
                Ok(_) => {
                    let bytes = self.summary.as_ref().map_or(0, |summary| summary.stored.total());
                    self.context.etcd.spend(Timestamp::now(), bytes);
                }
                Err(error) => warn!(execution = self.name, %error, "could not add the image's digest"),
            }
        }
    }
}

/// The API server's ways to say that an object is too large for it, or for etcd behind it.
fn is_too_large(error: &CallError) -> bool {
    match error.status() {
        Some(413 | 422) => true,
        Some(500) => error.message().contains("too large"),
        _ => false,
    }
}

/// The least that can be said when not even a shortened result is taken.
fn without_output(status: &mut CodeExecutionStatus, error: &CallError) {
    let sentence = format!("the result could not be stored: {}", error.message());
    *status = CodeExecutionStatus {
        phase: status.phase,
        reason: status.reason,
        retryable: status.retryable,
        exit_code: status.exit_code,
        signal: status.signal,
        error: Some(sentence.chars().take(1000).collect()),
        pod_name: status.pod_name.clone(),
        completion_time: status.completion_time.clone(),
        conditions: status.conditions.clone(),
        ..CodeExecutionStatus::default()
    };
}
