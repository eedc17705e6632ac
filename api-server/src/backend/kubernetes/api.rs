//! The calls that are made to the Kubernetes API, each with a deadline, and which of its errors mean what.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::{HeaderValue, header};
use codeexec_crds::{CodeExecution, EXECUTOR_CONTAINER, LABEL_USER};
use futures::{AsyncBufRead, Stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::record::Record;
use super::table::{self, Table};
use crate::backend::Query;

/// Between two attempts of a call that may succeed when repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// Seconds after which a watch is renewed: load balancers with a short idle limit fall silent instead of closing.
const WATCH_SECONDS: u32 = 200;

/// Records in one page of a list that reads all of them; of each there is a line of metadata.
const PAGE: u32 = 500;

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

/// What came of a create.
#[derive(Debug)]
pub enum Created {
    /// The object, with this uid.
    New(String),
    /// Nothing: there is one of that name, from a request of before or from somebody else.
    Existing(Box<CodeExecution>),
}

/// The CodeExecutions of one namespace.
#[derive(Clone)]
pub struct Executions {
    client: Client,
    path: String,
    executions: Api<CodeExecution>,
    records: Api<Record>,
    pods: Api<Pod>,
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
            path: CodeExecution::url_path(&(), Some(namespace)),
            executions: Api::namespaced(client.clone(), namespace),
            records: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            client,
            selector,
            patience,
        }
    }

    /// Creates an execution. A retry that meets what an attempt of before has created, unanswered, takes that.
    ///
    /// # Errors
    /// [`ApiError`]. Unless it carries a status, the object may exist all the same.
    pub async fn create(&self, execution: &CodeExecution) -> Result<Created, ApiError> {
        let parameters = PostParams::default();
        let attempts = AtomicU32::new(0);
        self.retried(|| async {
            let is_first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
            match self.executions.create(&parameters, execution).await {
                Ok(created) => Ok(Created::New(created.metadata.uid.unwrap_or_default())),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    let existing = self.executions.get(&execution.name_any()).await?;
                    // Labels tell whose it is, the time at which it was made that it is this one.
                    let is_own = !is_first
                        && existing.spec == execution.spec
                        && existing.labels() == execution.labels()
                        && existing.annotations() == execution.annotations();
                    match is_own {
                        true => Ok(Created::New(existing.metadata.uid.unwrap_or_default())),
                        false => Ok(Created::Existing(Box::new(existing))),
                    }
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The whole object of that name, or nothing if there is none.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get_whole(&self, name: &str) -> Result<Option<CodeExecution>, ApiError> {
        self.retried(|| self.executions.get_opt(name)).await
    }

    /// A page of a list, as a table.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn table(&self, query: &Query) -> Result<Table, ApiError> {
        let parameters = ListParams {
            field_selector: Some(table::fields(query)).filter(|fields| !fields.is_empty()),
            limit: u32::try_from(query.limit).ok(),
            continue_token: query.after.clone(),
            ..ListParams::default()
        };
        let request = || -> kube::Result<_> {
            let mut request = Request::new(&self.path)
                .list(&parameters)
                .map_err(kube::Error::BuildRequest)?;
            request
                .headers_mut()
                .insert(header::ACCEPT, HeaderValue::from_static(table::MIME));
            Ok(request)
        };
        self.retried(|| async { self.client.request(request()?).await })
            .await
    }

    /// Opens the watch of one object.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn watch_one(
        &self,
        name: &str,
        version: &str,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Record>>> + use<>, ApiError> {
        let parameters = WatchParams::default()
            .fields(&format!("metadata.name={name}"))
            .timeout(WATCH_SECONDS);
        self.retried(|| self.records.watch(&parameters, version)).await
    }

    /// The record of that name, or nothing if there is none.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get(&self, name: &str) -> Result<Option<Record>, ApiError> {
        self.retried(|| self.records.get_opt(name)).await
    }

    /// The log of an executor Pod, from its beginning, as it grows.
    ///
    /// # Errors
    /// [`ApiError`], at once: who reads it knows better when to try again.
    pub async fn log(&self, pod: &str) -> Result<impl AsyncBufRead + Send + use<>, ApiError> {
        let parameters = LogParams {
            container: Some(EXECUTOR_CONTAINER.to_owned()),
            follow: true,
            ..LogParams::default()
        };
        let opened = timeout(self.patience, self.pods.log_stream(pod, &parameters)).await;
        Ok(opened.map_err(|_| ApiError::Deadline)??)
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

    /// Reads the metadata of everybody's executions, and returns the resource version at which a watch of them
    /// begins.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn list_counted(&self, mut tell: impl FnMut(&ObjectMeta)) -> Result<String, ApiError> {
        let mut parameters = ListParams::default().labels(LABEL_USER).limit(PAGE);
        loop {
            let page = self.retried(|| self.records.list_metadata(&parameters)).await?;
            page.items.iter().for_each(|object| tell(&object.metadata));
            // Every page is of the first one's version.
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(page.metadata.resource_version.unwrap_or_default()),
            }
        }
    }

    /// Opens the watch of the metadata of everybody's executions.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn watch_counted(
        &self,
        version: &str,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<PartialObjectMeta<Record>>>> + use<>, ApiError>
    {
        let parameters = WatchParams::default().labels(LABEL_USER).timeout(WATCH_SECONDS);
        self.retried(|| self.records.watch_metadata(&parameters, version))
            .await
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
