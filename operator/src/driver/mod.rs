//! One execution, from its first sight to its result: observes, asks [`next_step`] and does what it says.

mod audited;
mod begin;
mod claim;
mod conclude;
mod events;
mod facts;
mod pod_io;
mod policy;
mod storage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_audit::Execution as Audited;
use codeexec_crds::{CodeExecution, ExecutorPool, ExecutorPoolSpec, Isolation, Reason, Summary};
use codeexec_execution::isolation::{Verdict, out_of_reach, verdict};
use codeexec_execution::{budget, runner_request};
use codeexec_runner::Transcript;
use codeexec_runner::frames::{Ended, Ready, Request};
use codeexec_trace::Tracing;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::connection::{CallError, Clients, call};
use crate::etcd::EtcdBudget;
use crate::failpoints::Failpoint;
use crate::failures::Failures;
use crate::images::Images;
use crate::lease::Held;
use crate::metrics::Metrics;
use crate::observe::PodView;
use crate::pool::report::Reports;
use crate::pool::{Place, Pools, Turn as PoolTurn, WarmPod};
use crate::records::{self, Written};
use crate::session::{Attacher, Session};
use crate::settings::Settings;
use crate::step::{Done, Observed, PodState, Run, Step, Stream, Turn, next_step};
use crate::user_namespaces::UserNamespaces;

/// Pause before a call that failed for a passing reason is made again.
const RETRY: Duration = Duration::from_millis(500);

/// How often an execution that waits is told its position, where that changed.
const TELL_POSITION: Duration = Duration::from_secs(1);

/// What every driver needs.
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// This process's name in the Lease.
    pub holder: String,
    /// CodeExecutions of the executions' namespace.
    pub executions: Api<CodeExecution>,
    /// The same, where one that can't be read must not stand in the way of the others.
    pub guarded: Api<DeserializeGuard<CodeExecution>>,
    /// The same, without spec and status.
    pub records: Api<PartialObjectMeta<CodeExecution>>,
    /// ExecutorPools there.
    pub pool_api: Api<ExecutorPool>,
    /// Their idle Pods, and whose turn it is.
    pub pools: Arc<Pools>,
    /// Whether this process leads.
    pub held: Held,
    /// Pods there.
    pub pods: Api<Pod>,
    /// Opens streams to them, over a connection of its own.
    pub attacher: Attacher,
    /// What nodes said of the images of their Pods.
    pub images: Images,
    /// Whether Pods get user namespaces of their own.
    pub user_namespaces: UserNamespaces,
    /// What pools' Pods reported of their isolation.
    pub reports: Reports,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// What results may cost etcd.
    pub etcd: EtcdBudget,
    /// Tells of failures in Events.
    pub failures: Failures,
    /// Traces executions, where that is wanted.
    pub tracing: Option<Tracing>,
}

impl Context {
    /// A context for the executions' namespace of the settings.
    #[must_use]
    pub fn new(settings: Settings, clients: &Clients, holder: String, tracing: Option<Tracing>) -> Self {
        let namespace = &settings.executions_namespace;
        Self {
            executions: Api::namespaced(clients.main.clone(), namespace),
            guarded: Api::namespaced(clients.main.clone(), namespace),
            records: Api::namespaced(clients.main.clone(), namespace),
            pool_api: Api::namespaced(clients.main.clone(), namespace),
            pools: Arc::default(),
            held: Held::default(),
            pods: Api::namespaced(clients.main.clone(), namespace),
            attacher: Attacher::new(Api::namespaced(clients.attach.clone(), namespace)),
            images: Images::default(),
            user_namespaces: UserNamespaces::default(),
            reports: Reports::default(),
            metrics: Metrics::default(),
            etcd: EtcdBudget::new(settings.write_budget_bytes, settings.write_budget_window()),
            failures: Failures::new(clients.main.clone(), &settings.identity),
            tracing,
            holder,
            settings,
        }
    }
}

/// What the watch on unfinished executions says of one.
#[derive(Clone, Debug)]
pub enum ExecutionUpdate {
    /// It is there.
    Present(Arc<CodeExecution>),
    /// It left the watch: finished by somebody, or deleted.
    Left,
}

/// What the watch says of a Pod.
#[derive(Clone, Debug)]
pub enum PodUpdate {
    /// It is there.
    Present(Box<PodView>),
    /// It is gone; as it was last.
    Gone(Box<PodView>),
}

/// Drives one execution to its end.
pub struct Driver {
    context: Arc<Context>,
    execution: Arc<CodeExecution>,
    name: String,
    uid: String,
    resource_version: String,
    failpoint: Failpoint,
    updates_rx: watch::Receiver<ExecutionUpdate>,
    pods_rx: mpsc::UnboundedReceiver<PodUpdate>,
    session: Option<Session>,
    transcript: Transcript,
    ready: Option<Ready>,
    pool: ExecutorPoolSpec,
    /// Its place in the pool, from when it asked for one.
    place: Option<Place>,
    /// The idle Pod that it may claim.
    warm: Option<Box<WarmPod>>,
    /// What earlier programs of the same user printed in that Pod or left as files, in bytes of its log.
    printed_before: u64,
    /// Name of the Pod that it claimed; otherwise its Pod is one of its own, whose name says so.
    claimed: Option<String>,
    /// Somebody else may have begun with it.
    inherited: bool,
    /// The position in the queue that its status tells, and when that was written.
    told_position: Option<(usize, Instant)>,
    observed: Observed,
    clock: Clock,
    /// The result was written without its image's digest.
    digest_missing: bool,
    /// What the result says of the isolation, for the pool's status.
    isolation_seen: Option<Isolation>,
    /// What its writes were counted as.
    counted: storage::Counted,
    /// What is told of its result in the record's metadata.
    summary: Option<Summary>,
    /// Why it failed, for an Event.
    failure: Option<(Reason, String)>,
    /// Its line in the audit trail, until that is written.
    audited: Option<Audited>,
}

/// When what happened, as this process saw it.
struct Clock {
    seen: Instant,
    /// Creation to first sight, by the wall clock; Kubernetes records creation to the second.
    queued: Duration,
    /// Its turn in the pool came.
    turn: Option<Instant>,
    pod_created: Option<Instant>,
    ready: Option<Instant>,
    sent: Option<Instant>,
    /// The request was sent the last time.
    asked: Option<Instant>,
    started: Option<Instant>,
    result: Option<Instant>,
    stopping: Option<Instant>,
    retry_create_at: Option<Instant>,
}

impl Driver {
    /// A driver for an execution with the Pods that exist of it.
    #[must_use]
    pub fn new(
        context: Arc<Context>,
        execution: Arc<CodeExecution>,
        pods: Vec<PodView>,
        inherited: bool,
        updates_rx: watch::Receiver<ExecutionUpdate>,
        pods_rx: mpsc::UnboundedReceiver<PodUpdate>,
    ) -> Self {
        let metadata = &execution.metadata;
        let (name, uid) = (
            metadata.name.clone().unwrap_or_default(),
            metadata.uid.clone().unwrap_or_default(),
        );
        let queued = begin::waited_before(metadata, Timestamp::now());
        let clock = Clock {
            seen: Instant::now(),
            queued,
            turn: None,
            pod_created: None,
            ready: None,
            sent: None,
            asked: None,
            started: None,
            result: None,
            stopping: None,
            retry_create_at: None,
        };
        let (mut observed, claimed) = begin::first_observation(&execution, &uid, pods);
        if begin::is_untouched(&observed) {
            observed.violation = policy::refusal(context.settings.policy, &name, &execution.spec.code);
        }
        Self {
            failpoint: Failpoint::of(metadata, &context.holder),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            transcript: Transcript::new(&uid),
            context,
            execution,
            name,
            uid,
            updates_rx,
            pods_rx,
            session: None,
            ready: None,
            pool: ExecutorPoolSpec::default(),
            place: None,
            warm: None,
            printed_before: 0,
            claimed,
            inherited,
            told_position: None,
            observed,
            clock,
            digest_missing: false,
            isolation_seen: None,
            counted: storage::Counted::default(),
            summary: None,
            failure: None,
            audited: None,
        }
    }

    /// Works until nothing is left to do.
    pub async fn run(mut self) {
        self.resolve_pool().await;
        if self.observed.pod != PodState::NotCreated {
            let spec = &self.execution.spec;
            self.place = Some(self.context.pools.occupy(&spec.pool, &spec.user, &self.uid));
        }
        loop {
            self.take_what_is_there().await;
            self.refresh();
            let step = next_step(&self.observed);
            if !matches!(step, Step::Wait(_)) {
                debug!(execution = self.name, ?step, "next step");
            }
            match step {
                Step::Wait(longest) => {
                    self.wait(longest).await;
                    self.tell_position().await;
                }
                Step::Enter => self.enter(),
                Step::Claim => self.claim().await,
                Step::CreatePod => self.create_pod().await,
                Step::RecordPod => self.record_pod().await,
                Step::Attach => self.attach(),
                Step::Send => self.send(),
                Step::RecordRunning => self.record_running().await,
                Step::ReadLog => self.read_log().await,
                Step::StopPod => {
                    self.delete_pod().await;
                    self.clock.stopping = Some(Instant::now());
                }
                Step::NextAttempt => self.next_attempt().await,
                Step::Finish(end) => {
                    self.give_back();
                    // Before anybody can read the result, and send the next program because of it.
                    let coming_back = self.comes_back();
                    let phase = self.finish(&end).await;
                    self.place = None;
                    return self.clean_up(phase, coming_back).await;
                }
                Step::Abandon => {
                    self.give_back();
                    self.audit_what_left();
                    return self.delete_pod().await;
                }
            }
        }
    }

    /// The pool that the execution names. `default` need not exist: then the settings alone say what Pods
    /// look like.
    async fn resolve_pool(&mut self) {
        let name = self.execution.spec.pool.clone();
        if let Some(pool) = self.context.pools.spec(&name) {
            self.pool = pool;
            return;
        }
        // One that was made a moment ago is not in the watch yet.
        loop {
            match call(self.context.pool_api.get(&name)).await {
                Ok(pool) => {
                    self.pool = pool.spec;
                    return;
                }
                Err(error) if error.is_not_found() => {
                    if name != "default" && self.observed.violation.is_none() {
                        self.observed.violation = Some(format!("pool {name} does not exist"));
                    }
                    return;
                }
                Err(error) => {
                    warn!(execution = self.name, pool = name, %error, "could not read the pool");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Brings what passes with time up to date.
    fn refresh(&mut self) {
        let now = Instant::now();
        let waited = self.clock.queued + (now - self.clock.seen);
        self.observed.patience_over = waited > self.context.settings.queue_timeout();
        self.observed.done.stopping_for = self.clock.stopping.map(|at| now - at);
        let since = self.clock.started.or(self.clock.sent);
        let result = self.transcript.result();
        let stopped = result.is_some_and(|result| result.ended == Ended::Terminated);
        let known_since = result.map(|_| *self.clock.result.get_or_insert(now));
        self.observed.run = Run {
            started: self.transcript.started(),
            running_for: since.map_or(Duration::ZERO, |at| now - at),
            unanswered_for: self.clock.asked.map(|at| now - at),
            result: result.is_some(),
            whole: self.transcript.is_whole(),
            stopped_for: known_since.filter(|_| stopped).map(|at| now - at),
        };
        self.observed.isolation = self.isolation();
        if let PodState::Refused(refusal) = &mut self.observed.pod {
            refusal.retry_now = self.clock.retry_create_at.is_none_or(|at| now >= at);
        }
    }

    /// How what is required compares with what the current Pod's runner reported, or with what its pool allows.
    fn isolation(&self) -> Verdict {
        let settings = &self.context.settings;
        let required = &settings.isolation_require;
        let runtime_class = self
            .pool
            .runtime_class_name
            .as_ref()
            .or(settings.runtime_class.as_ref());
        let runtime_class = runtime_class.map(String::as_str);
        let host_users = self.pool.host_users.or(settings.host_users);
        if let Some(text) = out_of_reach(required, runtime_class, host_users) {
            return Verdict::Missing(text);
        }
        match (&self.ready, &self.observed.pod) {
            (Some(ready), PodState::Exists(pod)) => verdict(
                required,
                &ready.isolation,
                &ready.network,
                pod.runtime_class.as_deref(),
            ),
            _ => Verdict::Pending,
        }
    }

    async fn record_pod(&mut self) {
        let status = json!({
            "phase": "Queued",
            "podName": self.pod_name(),
            "observedGeneration": self.execution.metadata.generation,
        });
        if self.write(&status).await {
            self.observed.done.recorded = true;
        }
    }

    async fn record_running(&mut self) {
        self.failpoint.hit("before-running-write");
        let node = match &self.observed.pod {
            PodState::Exists(pod) => pod.node.clone(),
            _ => None,
        };
        let status = json!({
            "phase": "Running",
            "podName": self.pod_name(),
            "nodeName": node,
            "startTime": format!("{:.0}", Timestamp::now()),
            "queuePosition": null,
        });
        if self.write(&status).await {
            self.observed.done.running_recorded = true;
            if !self.keeps_pod() {
                self.lower_deadline();
            }
            self.failpoint.hit("after-running-write");
        }
    }

    /// Writes into the status; false when it has to be tried again, after a pause.
    async fn write(&mut self, status: &serde_json::Value) -> bool {
        let api = &self.context.executions;
        match records::write_status(api, &self.name, &self.uid, &self.resource_version, status).await {
            Ok(Written::Yes(version)) => {
                self.saw_version(&version);
                self.count_write();
                true
            }
            Ok(Written::AlreadyFinished(object)) => {
                self.ended_elsewhere(&object);
                true
            }
            Ok(Written::Gone) => {
                self.observed.gone = true;
                true
            }
            Err(error) => {
                self.pause_after(&error, "could not write the status").await;
                false
            }
        }
    }

    async fn pause_after(&self, error: &CallError, what: &str) {
        warn!(execution = self.name, %error, "{what}");
        tokio::time::sleep(RETRY).await;
    }

    fn attach(&mut self) {
        self.failpoint.hit("before-attach");
        self.session = Some(Session::open(
            self.context.attacher.clone(),
            self.pod_name(),
            self.failpoint.clone(),
            None,
        ));
        self.observed.stream = Stream::Connecting;
    }

    fn send(&mut self) {
        self.failpoint.hit("before-frame");
        let limits = budget::output_limits(&self.execution);
        if let Some(session) = &self.session {
            let request = Request {
                keep: self.keeps_pod(),
                ..runner_request(&self.uid, &self.execution.spec, limits)
            };
            session.send(request, self.failpoint.clone());
        }
        self.observed.stream = Stream::Sent;
        self.observed.done.delivered = true;
        self.clock.asked = Some(Instant::now());
        self.clock.sent.get_or_insert_with(Instant::now);
        // Reckoned while the program runs, rather than when its result is waited for.
        self.count_creation();
    }

    async fn next_attempt(&mut self) {
        warn!(
            execution = self.name,
            attempt = self.observed.done.attempt,
            "its Pod went before it got the program"
        );
        self.delete_pod().await;
        self.claimed = None;
        self.session = None;
        self.transcript = Transcript::new(&self.uid);
        self.observed.done = Done {
            attempt: self.observed.done.attempt + 1,
            ..Done::default()
        };
        self.observed.stream = Stream::Detached;
        self.observed.pod = PodState::NotCreated;
        // Whatever was wrong with that Pod, the next one is made for this execution.
        self.observed.turn = Turn::Cold;
        if let Some(place) = &self.place {
            place.starts_cold();
        }
        self.ready = None;
        self.clock.ready = None;
        self.clock.sent = None;
        self.clock.started = None;
    }
}
