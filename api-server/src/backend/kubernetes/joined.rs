//! Waits for an execution that another request has created: this replica's by the shared watch, another replica's
//! by a watch of that one object.

use std::sync::Arc;
use std::time::Duration;

use codeexec_crds::{CodeExecution, CodeExecutionSpec, CodeExecutionStatus, LABEL_REPLICA};
use futures::{FutureExt, StreamExt, pin_mut};
use kube::ResourceExt;
use kube::api::WatchEvent;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::ApiError;
use super::record::Record;
use super::waiters::Waiter;
use super::{Replica, SLACK};
use crate::backend::{BackendError, Job, Started};

/// Between the end of a watch and a look at the object, so that what cuts watches makes no busy loop.
const PAUSE: Duration = Duration::from_millis(200);

impl Replica {
    /// Waits for what stands under the job's name, if it is the same. The waiter was registered before the object
    /// was read, so that an end in between is not missed.
    pub(super) fn join(
        self: Arc<Self>,
        job: Job,
        waiter: Waiter,
        existing: CodeExecution,
    ) -> Result<Started, BackendError> {
        if !is_same(&existing.spec, &job.spec) {
            return Err(BackendError::KeyReused);
        }
        let timeout = Duration::from_secs(u64::try_from(job.spec.timeout_seconds).unwrap_or_default());
        let is_ours = existing.labels().get(LABEL_REPLICA) == Some(&self.name);
        if let Some(uid) = existing.uid() {
            waiter.created(&uid);
        }
        let record = Record::from(existing);
        let version = record.metadata.resource_version.clone().unwrap_or_default();
        let end = async move {
            if let Some(status) = record.into_end() {
                return Ok(status);
            }
            if is_ours {
                return self.wait(&job.id, waiter, timeout).await;
            }
            drop(waiter);
            let patience = self.queue_timeout + timeout + SLACK;
            let deadline = Instant::now() + patience;
            let end = timeout_at(deadline, self.follow_one(&job.id, version, |_| {})).await;
            end.unwrap_or(Err(BackendError::NoResult))
        };
        Ok(Started {
            is_new: false,
            end: end.boxed(),
        })
    }

    /// The end of one object, from this version of it on, and whatever is seen of it before.
    pub(super) async fn follow_one(
        &self,
        name: &str,
        mut version: String,
        seen: impl Fn(&Record),
    ) -> Result<CodeExecutionStatus, BackendError> {
        loop {
            match self.watched_end(name, &version, &seen).await {
                Ok(Some(record)) => return record.into_end().ok_or(BackendError::Deleted),
                Ok(None) => {}
                Err(error) => tracing::debug!(%name, %error, "the watch of one CodeExecution is down"),
            }
            sleep(PAUSE).await;
            match self.executions.get(name).await {
                Ok(Some(record)) => {
                    version = record.metadata.resource_version.clone().unwrap_or_default();
                    seen(&record);
                    if let Some(status) = record.into_end() {
                        return Ok(status);
                    }
                }
                Ok(None) => return Err(BackendError::Deleted),
                Err(error) => tracing::warn!(%name, %error, "failed to look for the end of CodeExecution"),
            }
        }
    }

    /// The object as it ended, or was deleted; nothing when the watch ended before.
    async fn watched_end(
        &self,
        name: &str,
        version: &str,
        seen: impl Fn(&Record),
    ) -> Result<Option<Record>, ApiError> {
        let events = self.executions.watch_one(name, version).await?;
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(record) | WatchEvent::Modified(record) if record.has_ended() => {
                    return Ok(Some(record));
                }
                WatchEvent::Deleted(record) => return Ok(Some(record)),
                WatchEvent::Added(record) | WatchEvent::Modified(record) => seen(&record),
                WatchEvent::Error(_) => return Ok(None),
                WatchEvent::Bookmark(_) => {}
            }
        }
        Ok(None)
    }
}

/// Whether a client asked for the same. What it can't ask for may have changed: somebody may have cancelled it, and
/// the time that records are kept is the installation's.
fn is_same(existing: &CodeExecutionSpec, asked: &CodeExecutionSpec) -> bool {
    let asked = CodeExecutionSpec {
        cancel: existing.cancel,
        ttl_seconds_after_finished: existing.ttl_seconds_after_finished,
        ..asked.clone()
    };
    *existing == asked
}
