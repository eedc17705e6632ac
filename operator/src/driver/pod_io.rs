//! What a driver does to its Pod: create it, read its log, lower its deadline, delete it.

use std::time::{Duration, Instant};

use codeexec_execution::outcome::End;
use codeexec_runner::frames::RunResult;
use codeexec_runner::{Transcript, exit};
use jiff::Timestamp;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tracing::{debug, warn};

use super::Driver;
use crate::connection::{CallError, call};
use crate::observe::PodView;
use crate::pod::{self, Template};
use crate::step::{LogState, PodState, Refusal};

/// Pause before a Pod that the API server refused is tried again.
const CREATE_RETRY: Duration = Duration::from_secs(1);

/// Most that is read of a log. The runner's frames come to about 9 MB at worst; 10 MiB is also where the
/// kubelet rotates.
const LOG_BYTES: i64 = 12 * 1024 * 1024;

/// Tries to get the end of a log: it can lag behind the container's end.
const LOG_TRIES: u32 = 5;

/// Pause between them.
const LOG_RETRY: Duration = Duration::from_millis(200);

impl Driver {
    pub(super) async fn create_pod(&mut self) {
        self.context.held.or_never().await;
        self.failpoint.hit("before-pod-create");
        let template = Template {
            settings: &self.context.settings,
            pool: &self.pool,
            host_users: self
                .context
                .user_namespaces
                .host_users(&self.context, &self.pool)
                .await,
        };
        let prepared = template.for_execution(&self.execution, self.observed.done.attempt);
        let created = call(
            self.context
                .pods
                .create(&PostParams::default(), prepared.object()),
        )
        .await;
        let existing = match created {
            // Ours, from a try whose answer was lost or from the process before: its name says for whom.
            Err(error) if error.status() == Some(409) => call(self.context.pods.get(prepared.name())).await,
            other => other,
        };
        self.observed.pod = match existing {
            Ok(object) => {
                let view = PodView::from(&object);
                if view.execution_uid.as_deref() == Some(&self.uid) {
                    PodState::Exists(Box::new(view))
                } else {
                    let end = End::Internal(format!("a foreign Pod is in the way: {}", view.name));
                    PodState::Refused(Refusal {
                        end,
                        retry_now: false,
                        lasting: true,
                    })
                }
            }
            Err(error) => {
                self.clock.retry_create_at = Some(Instant::now() + CREATE_RETRY);
                PodState::Refused(self.refusal(&error))
            }
        };
        self.clock.pod_created = Some(Instant::now());
        self.failpoint.hit("after-pod-create");
    }

    fn refusal(&self, error: &CallError) -> Refusal {
        let message = error.message();
        warn!(execution = self.name, error = message, "could not create the Pod");
        match error.status() {
            Some(403) if message.contains("exceeded quota") => Refusal {
                end: End::QuotaExceeded(message),
                retry_now: false,
                lasting: false,
            },
            Some(400 | 422) => Refusal {
                end: End::Internal(format!(
                    "the Pod of pool {} was refused: {message}",
                    self.execution.spec.pool
                )),
                retry_now: false,
                lasting: true,
            },
            _ => Refusal {
                end: End::Internal(format!("the Pod could not be created: {message}")),
                retry_now: false,
                lasting: false,
            },
        }
    }

    /// Lowers the Pod's deadline to what the program's own leaves. The runner's clock is the deadline; this one ends
    /// a Pod whose runner no longer acts while there is no operator. Only for a program that takes its time: the
    /// kubelet answers it with a write of its own, which would hold up a fast one's result.
    pub(super) fn lower_deadline(&self) {
        let age = match &self.observed.pod {
            PodState::Exists(view) => view.age(Timestamp::now()),
            PodState::NotCreated | PodState::Refused(_) | PodState::Gone(_) => return,
        };
        let deadline = pod::lowered_deadline(age, self.execution.spec.timeout_seconds);
        let name = self.pod_name();
        let pods = self.context.pods.clone();
        tokio::spawn(async move {
            let patch = json!({"spec": {"activeDeadlineSeconds": deadline}});
            let result = call(pods.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await;
            if let Err(error) = result {
                // It is a backstop: a second lowering, which would raise it, is refused as well.
                debug!(pod = name, %error, "the Pod's deadline was not lowered");
            }
        });
    }

    /// Reads the log, and keeps what it knows more than the stream told.
    pub(super) async fn read_log(&mut self) {
        let ended = match &self.observed.pod {
            PodState::Exists(pod) => pod.ended || self.transcript.result().is_some(),
            _ => true,
        };
        let name = self.pod_name();
        let params = LogParams {
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        self.observed.done.log = LogState::Lost;
        for _ in 0..LOG_TRIES {
            match call(self.context.pods.logs(&name, &params)).await {
                Ok(text) => {
                    self.merge(&Transcript::from_log(&self.uid, text.as_bytes()));
                    self.observed.done.log = if ended {
                        LogState::ReadEnded
                    } else {
                        LogState::ReadRunning
                    };
                    if !ended || self.transcript.is_whole() {
                        break;
                    }
                }
                Err(error) if error.is_not_found() => break,
                // A container that is only being made has no log yet.
                Err(error) if !ended && error.status() == Some(400) => {
                    self.observed.done.log = LogState::ReadRunning;
                    break;
                }
                Err(error) => debug!(pod = name, %error, "could not read the log"),
            }
            tokio::time::sleep(LOG_RETRY).await;
        }
        if self.transcript.result().is_none() {
            self.take_result_from_termination_log();
        }
        if self.transcript.started() {
            self.clock.started.get_or_insert_with(Instant::now);
        }
    }

    fn merge(&mut self, log: &Transcript) {
        if log.is_whole() || (log.started() && !self.transcript.is_whole() && !self.knows_more_than(log)) {
            let result = self.transcript.result().cloned();
            self.transcript = log.clone();
            if let (None, Some(result)) = (self.transcript.result(), result) {
                self.transcript.set_result(result);
            }
        }
    }

    fn knows_more_than(&self, log: &Transcript) -> bool {
        self.transcript.kept_bytes() > log.kept_bytes()
    }

    /// A log that was stopped by a reader that no longer read lacks the last frame. The runner leaves the same
    /// result in its termination log.
    fn take_result_from_termination_log(&mut self) {
        let PodState::Exists(view) = &self.observed.pod else {
            return;
        };
        let Some(terminated) = view
            .terminated
            .as_ref()
            .filter(|terminated| exit::wrote_its_last_words(terminated.exit_code))
        else {
            return;
        };
        let result = terminated
            .message
            .as_deref()
            .and_then(|text| serde_json::from_str::<RunResult>(text.trim()).ok());
        if let Some(result) = result.filter(|result| result.uid == self.uid) {
            self.transcript.set_result(result);
        }
    }

    /// Deletes the Pod if there is one.
    pub(super) async fn delete_pod(&mut self) {
        self.delete_pod_within(pod::GRACE_SECONDS).await;
    }

    /// The same at the end of an execution. A runner that has said its last word ends by itself, and every process
    /// in its Pod has: such a Pod gets no grace, which would cost two more writes by the kubelet.
    pub(super) async fn delete_ended_pod(&mut self) {
        let is_over = self.transcript.result().is_some() && !self.keeps_pod();
        self.delete_pod_within(if is_over { 0 } else { pod::GRACE_SECONDS })
            .await;
    }

    async fn delete_pod_within(&mut self, grace_seconds: u32) {
        if matches!(
            self.observed.pod,
            PodState::NotCreated | PodState::Refused(_) | PodState::Gone(_)
        ) {
            return;
        }
        self.failpoint.hit("before-pod-delete");
        let name = self.pod_name();
        let params = DeleteParams::default().grace_period(grace_seconds);
        for _ in 0..LOG_TRIES {
            match call(self.context.pods.delete(&name, &params)).await {
                Ok(_) => return,
                Err(error) if error.is_not_found() => return,
                Err(error) => self.pause_after(&error, "could not delete the Pod").await,
            }
        }
    }
}
