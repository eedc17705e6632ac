//! Runs programs as CodeExecutions of a cluster.
//!
//! ```text
//!   request ── register ──▶ waiters ◀── ends ── the shared watch
//!      └────── create ────▶ Kubernetes API ──▶ operator ──▶ Pod
//! ```

mod api;
mod counted;
mod follow;
mod joined;
mod live;
mod record;
mod table;
mod waiters;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use codeexec_crds::{
    ANNOTATION_LIVE, ANNOTATION_RECEIVED_AT, ANNOTATION_TRACEPARENT, CodeExecution, CodeExecutionStatus,
    LABEL_REPLICA, LABEL_USER,
};
use codeexec_execution::user_hash;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::{Client, Config};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::api::{ApiError, Created, Executions};
use self::counted::Counting;
use self::waiters::{News, Waiter, Waiters};
use self::watch::Watch;
use super::{Backend, BackendError, End, Execution, Job, Keep, Page, Progress, Query, Started};
use crate::limits::Limits;
use crate::settings::Settings;

/// What an answer may take beyond queue and program: starting the Pod, and reporting.
const SLACK: Duration = Duration::from_secs(20);

/// From when on, and how often, a waiter looks for itself, in case the watch missed something.
const OWN_LOOK_AFTER: Duration = Duration::from_secs(5);
const OWN_LOOK_EVERY: Duration = Duration::from_secs(10);

/// Pages that a list reads at most until one holds something that is asked for.
const PAGES_WITHOUT_A_MATCH: u32 = 10;

/// Between attempts to cancel what nobody waits for any more, and how many there are.
const CANCEL_PAUSE: Duration = Duration::from_secs(2);
const CANCEL_ATTEMPTS: u32 = 15;

/// Why the backend can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// Neither in a Pod nor beside a kubeconfig.
    #[error("no way to the Kubernetes API: not in a Pod ({in_cluster}), and no kubeconfig ({kubeconfig})")]
    NoConfig {
        /// What is missing in the environment of a Pod.
        in_cluster: String,
        /// What is wrong with the kubeconfig.
        kubeconfig: String,
    },
    /// The configuration makes no client.
    #[error("failed to set up the client of the Kubernetes API: {0}")]
    Client(#[from] kube::Error),
}

/// Runs programs as CodeExecutions.
#[derive(Debug)]
pub struct KubernetesBackend {
    replica: Arc<Replica>,
    watch: Watch,
    counting: Counting,
}

/// What each request of this replica works with.
#[derive(Debug)]
struct Replica {
    executions: Executions,
    waiters: Waiters,
    limits: Arc<Limits>,
    name: String,
    queue_timeout: Duration,
    stopping: CancellationToken,
}

impl KubernetesBackend {
    /// Starts the watches. A Kubernetes API that does not answer is not an error: service begins once it does. The
    /// client must not retry by itself.
    #[must_use]
    pub fn with_client(
        client: Client,
        settings: &Settings,
        limits: Arc<Limits>,
        stopping: CancellationToken,
    ) -> Self {
        let replica = settings.replica();
        let namespace = &settings.executions_namespace;
        tracing::info!(%namespace, %replica, "executions run in the cluster");
        let selector = format!("{LABEL_REPLICA}={replica}");
        let executions = Executions::new(client, namespace, selector, settings.kube_timeout());
        let waiters = Waiters::default();
        let watch = Watch::new(executions.clone(), waiters.clone());
        tokio::spawn(watch.clone().run());
        let counting = Counting::new(executions.clone(), limits.clone());
        tokio::spawn(counting.clone().run());
        let replica = Arc::new(Replica {
            executions,
            waiters,
            limits,
            name: replica,
            queue_timeout: settings.queue_timeout(),
            stopping,
        });
        Self {
            replica,
            watch,
            counting,
        }
    }
}

impl Replica {
    async fn start(self: Arc<Self>, job: Job, keep: Keep) -> Result<Started, BackendError> {
        let timeout = Duration::from_secs(u64::try_from(job.spec.timeout_seconds).unwrap_or_default());
        let execution = object(&job, &self.name);
        let waiter = self.waiters.register(&job.id);
        let mut unwanted = CancelOnDrop::new(&self, job.id.clone(), keep);
        match self.executions.create(&execution).await {
            Ok(Created::New(uid)) => waiter.created(&uid),
            Ok(Created::Existing(existing)) => {
                unwanted.disarm();
                return self.join(job, waiter, *existing);
            }
            Err(error) => {
                let refused = error.status().is_some_and(|status| status.code < 500);
                unwanted.client_was_told_of_failure(!refused);
                return Err(not_created(&job.id, &error));
            }
        }
        let end = async move {
            let result = self.wait(&job.id, waiter, timeout).await;
            unwanted.disarm();
            if !matches!(result, Err(BackendError::NoResult)) {
                self.limits.ended(&job.spec.user, &job.id);
            }
            result
        };
        Ok(Started {
            is_new: true,
            end: end.boxed(),
        })
    }

    async fn rejoin(self: Arc<Self>, job: Job) -> Result<Option<Started>, BackendError> {
        let waiter = self.waiters.register(&job.id);
        let existing = self.executions.get_whole(&job.id).await;
        match existing.map_err(|error| not_read(&job.id, &error))? {
            Some(existing) => self.join(job, waiter, existing).map(Some),
            None => Ok(None),
        }
    }

    async fn get(&self, id: &str) -> Result<Option<Execution>, BackendError> {
        let record = self.executions.get(id).await;
        let record = record.map_err(|error| not_read(id, &error))?;
        Ok(record.map(|record| Execution {
            id: id.to_owned(),
            user: record.spec.user,
            created: record
                .metadata
                .creation_timestamp
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            status: record.status.unwrap_or_default(),
        }))
    }

    /// Reads on while a page holds nothing that is asked for, within a bound: the Kubernetes API does not select
    /// by time.
    async fn list(&self, mut query: Query) -> Result<Page, BackendError> {
        let mut page = Page::default();
        for _ in 0..PAGES_WITHOUT_A_MATCH {
            let table = self
                .executions
                .table(&query)
                .await
                .map_err(|error| not_listed(&error))?;
            page.next = table.metadata.continue_.clone().filter(|token| !token.is_empty());
            page.items = table.items();
            page.items.retain(|listed| query.matches(listed));
            if !page.items.is_empty() || page.next.is_none() {
                break;
            }
            query.after.clone_from(&page.next);
        }
        Ok(page)
    }

    async fn cancel(&self, id: &str) -> Result<(), BackendError> {
        let cancelled = self.executions.cancel(id).await;
        cancelled.map_err(|error| not_read(id, &error))?;
        Ok(())
    }

    async fn wait(
        &self,
        name: &str,
        mut waiter: Waiter,
        timeout: Duration,
    ) -> Result<CodeExecutionStatus, BackendError> {
        let now = Instant::now();
        let deadline = now + self.queue_timeout + timeout + SLACK;
        let mut own_look = now + timeout + OWN_LOOK_AFTER;
        loop {
            tokio::select! {
                news = &mut waiter.news_rx => match news {
                    Ok(News::Ended(status)) => return Ok(*status),
                    // A watch by label reports one that lost its label as deleted, too; the same holds for it:
                    // nobody will tell us of its end.
                    Ok(News::Gone) | Err(_) => return Err(BackendError::Deleted),
                },
                () = sleep_until(own_look.min(deadline)) => {
                    own_look = Instant::now() + OWN_LOOK_EVERY;
                    match self.executions.get(name).await {
                        Ok(Some(record)) => self.waiters.seen(record),
                        Ok(None) => self.waiters.missing(name),
                        Err(error) => tracing::warn!(%name, %error, "failed to look for the end of CodeExecution"),
                    }
                    if Instant::now() >= deadline && waiter.news_rx.is_empty() {
                        tracing::error!(%name, "CodeExecution did not end in time; is the operator running?");
                        return Err(BackendError::NoResult);
                    }
                }
            }
        }
    }
}

impl Backend for KubernetesBackend {
    fn start(&self, job: Job, keep: Keep) -> BoxFuture<'_, Result<Started, BackendError>> {
        self.replica.clone().start(job, keep).boxed()
    }

    fn rejoin(&self, job: Job) -> BoxFuture<'_, Result<Option<Started>, BackendError>> {
        self.replica.clone().rejoin(job).boxed()
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Execution>, BackendError>> {
        self.replica.get(id).boxed()
    }

    fn follow(&self, id: &str, next_seq: u64, progress_tx: mpsc::Sender<Progress>) -> End {
        self.replica
            .clone()
            .live(id.to_owned(), next_seq, progress_tx)
            .boxed()
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BackendError>> {
        self.replica.list(query).boxed()
    }

    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        self.replica.cancel(id).boxed()
    }

    fn ready(&self) -> Result<(), String> {
        match (self.watch.is_up(), self.counting.is_up()) {
            (true, true) => Ok(()),
            (false, _) => Err("the watch of executions is down".to_owned()),
            (true, false) => Err("the watch that counts users' executions is down".to_owned()),
        }
    }
}

/// A client as the environment says, which does not retry by itself.
///
/// # Errors
/// [`KubernetesError`].
pub async fn connect() -> Result<Client, KubernetesError> {
    Ok(Client::try_from(config().await?)?)
}

/// In a Pod by the address that Kubernetes puts into its environment, because a cluster may have no DNS.
///
/// # Errors
/// Where there is neither that nor a kubeconfig.
pub async fn config() -> Result<Config, KubernetesError> {
    let mut config = match Config::incluster_env() {
        Ok(config) => config,
        Err(in_cluster) => Config::from_kubeconfig(&kube::config::KubeConfigOptions::default())
            .await
            .map_err(|kubeconfig| KubernetesError::NoConfig {
                in_cluster: in_cluster.to_string(),
                kubeconfig: kubeconfig.to_string(),
            })?,
    };
    // Its retries back off for up to 1000 s; ours know when somebody waits.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    Ok(config)
}

fn object(job: &Job, replica: &str) -> CodeExecution {
    let mut execution = CodeExecution::new(&job.id, job.spec.clone());
    execution.metadata.labels = Some(BTreeMap::from([
        (LABEL_USER.to_owned(), user_hash(&job.spec.user)),
        (LABEL_REPLICA.to_owned(), replica.to_owned()),
    ]));
    let now = format!("{:.3}", Timestamp::now());
    let mut annotations = BTreeMap::from([(ANNOTATION_RECEIVED_AT.to_owned(), now)]);
    if job.live {
        annotations.insert(ANNOTATION_LIVE.to_owned(), "true".to_owned());
    }
    annotations.extend(codeexec_trace::current().map(|parent| (ANNOTATION_TRACEPARENT.to_owned(), parent)));
    execution.metadata.annotations = Some(annotations);
    execution
}

/// What the client is told of an execution that could not be created, and what the log is.
fn not_created(name: &str, error: &ApiError) -> BackendError {
    tracing::error!(%name, %error, "failed to create CodeExecution");
    match error.status() {
        Some(status) if status.is_invalid() => BackendError::Refused(status.message.clone()),
        Some(status) if status.is_forbidden() && status.message.contains("exceeded quota") => {
            BackendError::QuotaExceeded
        }
        _ => BackendError::Unavailable,
    }
}

fn not_read(name: &str, error: &ApiError) -> BackendError {
    tracing::error!(%name, %error, "failed to read or change CodeExecution");
    BackendError::Unavailable
}

fn not_listed(error: &ApiError) -> BackendError {
    match error.status() {
        // A token is good for some minutes only, and not every text is one.
        Some(status) if matches!(status.code, 400 | 410) => BackendError::ListExpired,
        _ => {
            tracing::error!(%error, "failed to list CodeExecutions");
            BackendError::Unavailable
        }
    }
}

/// Cancels an execution when its request is dropped, which is what a client that hangs up comes to.
struct CancelOnDrop {
    replica: Arc<Replica>,
    name: String,
    state: Wanted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Until the server itself stops: then the execution runs to its end, and its record can be read.
    ByClient,
    /// By nobody: the client was told that it failed, so it must not run some time later.
    No,
    /// It runs to its end, or ended, or never began.
    Settled,
}

impl CancelOnDrop {
    fn new(replica: &Arc<Replica>, name: String, keep: Keep) -> Self {
        let state = match keep {
            Keep::WhileWaitedFor => Wanted::ByClient,
            Keep::ToItsEnd => Wanted::Settled,
        };
        Self {
            replica: replica.clone(),
            name,
            state,
        }
    }

    fn client_was_told_of_failure(&mut self, may_exist: bool) {
        if self.state == Wanted::ByClient {
            self.state = if may_exist { Wanted::No } else { Wanted::Settled };
        }
    }

    fn disarm(&mut self) {
        self.state = Wanted::Settled;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let unwanted = match self.state {
            Wanted::ByClient => !self.replica.stopping.is_cancelled(),
            Wanted::No => true,
            Wanted::Settled => false,
        };
        // A runtime that shuts down drops its requests outside of itself.
        if unwanted && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(cancel(
                self.replica.executions.clone(),
                std::mem::take(&mut self.name),
            ));
        }
    }
}

/// Cancels what may not even exist yet: the create may still be under way, or the Kubernetes API be lost.
async fn cancel(executions: Executions, name: String) {
    for _ in 0..CANCEL_ATTEMPTS {
        match executions.cancel(&name).await {
            Ok(true) => return tracing::info!(%name, "cancelled CodeExecution, which nobody waits for"),
            Ok(false) => tracing::debug!(%name, "no CodeExecution to cancel"),
            Err(error) => tracing::debug!(%name, %error, "failed to cancel CodeExecution"),
        }
        sleep(CANCEL_PAUSE).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests;
