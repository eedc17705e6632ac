//! The calls that are made to the Kubernetes API, each with a deadline, and which of its errors mean what.

use std::fmt;
use std::time::Duration;

use codeexec_crds::CodeExecution;
use futures::Stream;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::record::Record;

/// Between two attempts of a call that may succeed when repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// Seconds after which a watch is renewed: load balancers with a short idle limit fall silent instead of closing.
const WATCH_SECONDS: u32 = 200;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer within the deadline.
    #[error("the Kubernetes API did not answer in time")]
    Deadline,
    /// An answer that is an error, or no connection at all.
    #[error("{0}")]
    Kube(#[from] kube::Error),
}

impl ApiError {
    /// Whether the same call may succeed when it is repeated.
    fn may_pass(&self) -> bool {
        match self {
            Self::Deadline => true,
            Self::Kube(kube::Error::Api(status)) => status.code == 429 || status.code >= 500,
            Self::Kube(kube::Error::HyperError(_) | kube::Error::Service(_)) => true,
            Self::Kube(_) => false,
        }
    }

    /// The status that the Kubernetes API answered with.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }
}

/// The CodeExecutions of one namespace.
#[derive(Clone)]
pub struct Executions {
    executions: Api<CodeExecution>,
    records: Api<Record>,
    selector: String,
    patience: Duration,
}

impl fmt::Debug for Executions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Executions")
            .field("selector", &self.selector)
            .finish_non_exhaustive()
    }
}

impl Executions {
    /// Calls through `client`, which must not retry by itself, with `patience` for each call.
    #[must_use]
    pub fn new(client: Client, namespace: &str, selector: String, patience: Duration) -> Self {
        Self {
            executions: Api::namespaced(client.clone(), namespace),
            records: Api::namespaced(client, namespace),
            selector,
            patience,
        }
    }

    /// Creates an execution and returns its uid. A retry that meets what an attempt of before has created,
    /// unanswered, takes that: names are random, so it can be nobody else's.
    ///
    /// # Errors
    /// [`ApiError`]. Unless it carries a status, the object may exist all the same.
    pub async fn create(&self, execution: &CodeExecution) -> Result<String, ApiError> {
        let parameters = PostParams::default();
        let created = self
            .retried(|| async {
                match self.executions.create(&parameters, execution).await {
                    Ok(created) => Ok(created.metadata),
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {
                        let existing = self.executions.get(&execution.name_any()).await?;
                        // Labels tell whose it is, the spec that it is this one.
                        if existing.spec == execution.spec && existing.labels() == execution.labels() {
                            Ok(existing.metadata)
                        } else {
                            Err(kube::Error::Api(status))
                        }
                    }
                    Err(error) => Err(error),
                }
            })
            .await?;
        Ok(created.uid.unwrap_or_default())
    }

    /// The record of that name, or nothing if there is none.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get(&self, name: &str) -> Result<Option<Record>, ApiError> {
        self.retried(|| self.records.get_opt(name)).await
    }

    /// Asks the operator to end it. Whether it exists is told.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn cancel(&self, name: &str) -> Result<bool, ApiError> {
        let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
        let parameters = PatchParams::default();
        // The answer holds the whole object; of its metadata there is no more than a line.
        match self
            .retried(|| self.records.patch_metadata(name, &parameters, &patch))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.status().is_some_and(kube::core::Status::is_not_found) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The resource version at which to begin a watch. The list is cut after its first record's metadata: its
    /// version is the same as the whole list's.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn version(&self) -> Result<String, ApiError> {
        let parameters = ListParams::default().labels(&self.selector).limit(1);
        let list = self.retried(|| self.records.list_metadata(&parameters)).await?;
        Ok(list.metadata.resource_version.unwrap_or_default())
    }

    /// Opens the watch of what this replica created.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn watch(
        &self,
        version: &str,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Record>>> + use<>, ApiError> {
        let parameters = WatchParams::default()
            .labels(&self.selector)
            .timeout(WATCH_SECONDS);
        self.retried(|| self.records.watch(&parameters, version)).await
    }

    /// Repeats a call until it succeeds, is refused for good, or the patience is over. An attempt gets half of
    /// it: what hangs on a connection that died in silence still gets a second one, on another connection.
    async fn retried<T, F>(&self, call: impl Fn() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let deadline = Instant::now() + self.patience;
        loop {
            let attempt = (Instant::now() + self.patience / 2).min(deadline);
            let error = match timeout_at(attempt, call()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => ApiError::Kube(error),
                Err(_) => ApiError::Deadline,
            };
            if !error.may_pass() || Instant::now() + PAUSE >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }
}
