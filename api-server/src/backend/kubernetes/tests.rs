//! The backend against a Kubernetes API of our own, which answers as the real one does and can be made to fail.
#![allow(clippy::result_large_err)] // axum's own error type

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use codeexec_crds::{CodeExecutionSpec, Phase, Reason};
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{mpsc, watch as signal};

use kube::ResourceExt;

use super::*;

mod counting;
mod live;
mod retries;

/// What the fake has seen, and how it behaves.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    objects: Mutex<BTreeMap<String, Value>>,
    calls: Mutex<Vec<String>>,
    /// Answers to the next creates, in place of the usual one; `true` creates the object all the same.
    create_failures: Mutex<Vec<(u16, &'static str, bool)>>,
    lost: Mutex<bool>,
    /// fake --watch events--> the open watch
    events_tx: Mutex<Option<mpsc::UnboundedSender<Value>>>,
    /// fake --watch events--> the open watch that counts
    counted_tx: Mutex<Option<mpsc::UnboundedSender<Value>>>,
    /// fake --watch events--> the open watch of one object
    one_tx: Mutex<Option<mpsc::UnboundedSender<Value>>>,
    /// fake --bytes--> the open log of a Pod
    log_tx: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    changed: signal::Sender<u64>,
}

impl Fake {
    fn router(&self) -> Router {
        let base = "/apis/codeexec.dev/v1alpha1/namespaces/codeexec-executions/codeexecutions";
        Router::new()
            .route(base, get(list_or_watch).post(create))
            .route(&format!("{base}/{{name}}"), get(read).patch(patch))
            .route("/api/v1/namespaces/codeexec-executions/pods/{name}/log", get(log))
            .with_state(self.clone())
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.0.objects.lock().unwrap()
    }

    fn note(&self, call: String) -> axum::response::Result<()> {
        self.0.calls.lock().unwrap().push(call);
        self.0.changed.send_modify(|count| *count += 1);
        match *self.0.lost.lock().unwrap() {
            true => Err(failure(500, "InternalError", "lost").into()),
            false => Ok(()),
        }
    }

    fn calls(&self, prefix: &str) -> usize {
        self.0
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.starts_with(prefix))
            .count()
    }

    /// Waits until a call that begins so was made `count` times.
    async fn called(&self, prefix: &str, count: usize) {
        let mut changed = self.0.changed.subscribe();
        let wait = changed.wait_for(|_| self.calls(prefix) >= count);
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("the call is made")
            .unwrap();
    }

    /// The name of the only object.
    fn name(&self) -> String {
        self.objects().keys().next().unwrap().clone()
    }

    /// That object.
    fn object(&self) -> Value {
        self.objects().values().next().unwrap().clone()
    }

    fn send(&self, kind: &str, object: &Value) {
        let events = self.0.events_tx.lock().unwrap();
        events
            .as_ref()
            .unwrap()
            .send(json!({"type": kind, "object": object}))
            .unwrap();
    }

    /// Ends an object, silently unless `told`.
    fn end(&self, phase: Phase, reason: Reason, told: bool) {
        let name = self.name();
        let mut objects = self.objects();
        let object = objects.get_mut(&name).unwrap();
        object["status"] = json!({"phase": phase, "reason": reason, "output": "42\n"});
        let object = object.clone();
        drop(objects);
        if told {
            self.send("MODIFIED", &object);
        }
    }

    fn watch(&self, watch: &Mutex<Option<mpsc::UnboundedSender<Value>>>) -> Response {
        let (events_tx, events_rx) = mpsc::unbounded_channel::<Value>();
        *watch.lock().unwrap() = Some(events_tx);
        let lines = futures::stream::unfold(events_rx, |mut events_rx| async {
            let event = events_rx.recv().await?;
            Some((Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))), events_rx))
        });
        Body::from_stream(lines.boxed()).into_response()
    }

    fn close_watch(&self) {
        *self.0.events_tx.lock().unwrap() = None;
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "code": code, "reason": reason, "message": message});
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

async fn list_or_watch(
    State(fake): State<Fake>,
    Query(query): Query<BTreeMap<String, String>>,
) -> axum::response::Result<Response> {
    if let Some(name) = query
        .get("fieldSelector")
        .and_then(|fields| fields.strip_prefix("metadata.name="))
    {
        fake.note(format!("one {name} from {}", query["resourceVersion"]))?;
        return Ok(fake.watch(&fake.0.one_tx));
    }
    if query.contains_key("fieldSelector") {
        return fake.table(&query);
    }
    let counts = match query["labelSelector"].as_str() {
        "codeexec.dev/replica=replica-1" => false,
        "codeexec.dev/user" => true,
        other => panic!("{other}"),
    };
    let name = if counts { "count by " } else { "" };
    if !query.contains_key("watch") {
        fake.note(format!("{name}list"))?;
        assert_eq!(query["limit"], if counts { "500" } else { "1" });
        let mut metadata = json!({"resourceVersion": "7"});
        let mut items = vec![];
        if counts {
            // Two pages, whatever there is.
            let pages = fake.objects().values().cloned().collect::<Vec<_>>();
            let (first, second) = pages.split_at(pages.len() / 2);
            items = match query.contains_key("continue") {
                true => second.to_vec(),
                false => first.to_vec(),
            };
            if !query.contains_key("continue") {
                metadata["continue"] = json!("there is more");
            }
        }
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                          "metadata": metadata, "items": items});
        return Ok(Json(list).into_response());
    }
    fake.note(format!("{name}watch from {}", query["resourceVersion"]))?;
    assert_eq!(query["timeoutSeconds"], "200");
    Ok(fake.watch(if counts {
        &fake.0.counted_tx
    } else {
        &fake.0.events_tx
    }))
}

async fn create(State(fake): State<Fake>, Json(mut object): Json<Value>) -> axum::response::Result<Response> {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    fake.note(format!("create {name}"))?;
    if fake.objects().contains_key(&name) {
        return Ok(failure(409, "AlreadyExists", "it exists"));
    }
    let planned = fake.0.create_failures.lock().unwrap().pop();
    object["metadata"]["uid"] = json!(format!("uid of {name}"));
    object["metadata"]["resourceVersion"] = json!("8");
    if planned.is_none_or(|(_, _, creates)| creates) {
        fake.objects().insert(name, object.clone());
    }
    Ok(match planned {
        Some((code, reason, _)) => failure(code, reason, "exceeded quota: or so"),
        None => (StatusCode::CREATED, Json(object)).into_response(),
    })
}

async fn read(State(fake): State<Fake>, Path(name): Path<String>) -> axum::response::Result<Response> {
    fake.note(format!("read {name}"))?;
    Ok(match fake.objects().get(&name) {
        Some(object) => Json(object).into_response(),
        None => failure(404, "NotFound", "not found"),
    })
}

async fn patch(
    State(fake): State<Fake>,
    Path(name): Path<String>,
    body: Bytes,
) -> axum::response::Result<Response> {
    let body = String::from_utf8(body.to_vec()).unwrap();
    fake.note(format!("patch {name} {body}"))?;
    Ok(match fake.objects().get(&name) {
        Some(object) => Json(object).into_response(),
        None => failure(404, "NotFound", "not found"),
    })
}

async fn log(
    State(fake): State<Fake>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> axum::response::Result<Response> {
    fake.note(format!("log of {name}"))?;
    assert_eq!((&*query["container"], &*query["follow"]), ("executor", "true"));
    let (log_tx, log_rx) = mpsc::unbounded_channel::<Vec<u8>>();
    *fake.0.log_tx.lock().unwrap() = Some(log_tx);
    let pieces = futures::stream::unfold(log_rx, |mut log_rx| async {
        let piece = log_rx.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), log_rx))
    });
    Ok(Body::from_stream(pieces.boxed()).into_response())
}

type Backends = (Fake, Arc<KubernetesBackend>, Arc<Limits>);

/// A replica that counts nothing.
async fn backend() -> (Fake, Arc<KubernetesBackend>) {
    let (fake, backend, _) = backend_on(Fake::default(), &["--rate-limit", "0"]).await;
    (fake, backend)
}

async fn backend_on(fake: Fake, flags: &[&str]) -> Backends {
    let client = Client::new(fake.router(), "codeexec-executions");
    let always = [
        "codeexec-api",
        "--replica",
        "replica-1",
        "--kube-timeout-ms",
        "400",
    ];
    let settings = Settings::parse_from([&always, flags].concat());
    let limits = Limits::shared(&settings);
    let stopping = CancellationToken::new();
    let backend = KubernetesBackend::with_client(client, &settings, limits.clone(), stopping);
    fake.called("watch", 1).await;
    (fake, Arc::new(backend), limits)
}

type Answer = tokio::task::JoinHandle<Result<CodeExecutionStatus, BackendError>>;

fn job(id: &str) -> Job {
    Job {
        id: id.to_owned(),
        spec: CodeExecutionSpec::python("print(42)"),
        live: false,
    }
}

async fn execute(backend: &KubernetesBackend, job: Job) -> Result<CodeExecutionStatus, BackendError> {
    backend.start(job, Keep::WhileWaitedFor).await?.end.await
}

/// Sends a program and waits until its object exists.
async fn sent(fake: &Fake, backend: &Arc<KubernetesBackend>) -> Answer {
    let (backend, creates) = (backend.clone(), fake.calls("create"));
    let job = job(&super::super::new_id());
    let answer = tokio::spawn(async move { execute(&backend, job).await });
    fake.called("create", creates + 1).await;
    while fake.objects().is_empty() {
        tokio::task::yield_now().await;
    }
    answer
}

#[tokio::test]
async fn an_end_on_the_watch_is_the_answer_and_nothing_else_is_read() {
    let (fake, backend) = backend().await;
    let answer = sent(&fake, &backend).await;
    fake.send("MODIFIED", &fake.object());
    fake.end(Phase::Succeeded, Reason::Completed, true);
    let status = answer.await.unwrap().unwrap();
    assert_eq!(status.output.as_deref(), Some("42\n"));
    assert_eq!(
        (fake.calls("read"), fake.calls("patch"), fake.calls("list")),
        (0, 0, 1)
    );
    let object = fake.object();
    assert_eq!(object["metadata"]["labels"]["codeexec.dev/replica"], "replica-1");
    assert_eq!(
        object["metadata"]["labels"]["codeexec.dev/user"],
        user_hash("anonymous")
    );
    assert_eq!(object["spec"]["user"], "anonymous");
}

#[tokio::test]
async fn a_watch_that_ends_is_renewed_at_the_last_version_without_a_list() {
    let (fake, backend) = backend().await;
    let bookmark = json!({"kind": "CodeExecution", "apiVersion": "codeexec.dev/v1alpha1",
                          "metadata": {"resourceVersion": "99"}});
    fake.send("BOOKMARK", &bookmark);
    fake.close_watch();
    fake.called("watch from 99", 1).await;
    assert_eq!(fake.calls("list"), 1);
    assert!(backend.ready().is_ok());
}

#[tokio::test]
async fn what_ended_while_the_watch_had_gone_is_read_and_answered() {
    let (fake, backend) = backend().await;
    let answer = sent(&fake, &backend).await;
    fake.end(Phase::Succeeded, Reason::Completed, false);
    fake.send(
        "ERROR",
        &json!({"status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}),
    );
    let status = answer.await.unwrap().unwrap();
    assert_eq!(status.output.as_deref(), Some("42\n"));
    assert_eq!((fake.calls("list"), fake.calls("read")), (2, 1));
}

#[tokio::test]
async fn an_object_deleted_while_it_is_waited_for_is_told() {
    let (fake, backend) = backend().await;
    let answer = sent(&fake, &backend).await;
    let object = fake.object();
    fake.objects().clear();
    fake.send("DELETED", &object);
    assert_eq!(answer.await.unwrap(), Err(BackendError::Deleted));
}

#[tokio::test]
async fn an_object_deleted_while_the_watch_had_gone_is_told() {
    let (fake, backend) = backend().await;
    let answer = sent(&fake, &backend).await;
    fake.objects().clear();
    fake.send(
        "ERROR",
        &json!({"status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}),
    );
    assert_eq!(answer.await.unwrap(), Err(BackendError::Deleted));
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_recognized_when_repeated() {
    let (fake, backend) = backend().await;
    fake.0
        .create_failures
        .lock()
        .unwrap()
        .push((504, "Timeout", true));
    let answer = sent(&fake, &backend).await;
    fake.called("read", 1).await;
    fake.end(Phase::Succeeded, Reason::Completed, true);
    assert!(answer.await.unwrap().is_ok());
    assert_eq!(
        (fake.calls("create"), fake.calls("patch"), fake.objects().len()),
        (2, 0, 1)
    );
}

#[tokio::test]
async fn refusals_of_the_kubernetes_api_are_told_apart() {
    for (code, reason, expected) in [
        (403, "Forbidden", BackendError::QuotaExceeded),
        (
            422,
            "Invalid",
            BackendError::Refused("exceeded quota: or so".to_owned()),
        ),
        (404, "NotFound", BackendError::Unavailable),
    ] {
        let (fake, backend) = backend().await;
        fake.0.create_failures.lock().unwrap().push((code, reason, false));
        assert_eq!(execute(&backend, job("cex-1")).await, Err(expected));
        assert_eq!((fake.calls("create"), fake.calls("patch")), (1, 0));
    }
}

#[tokio::test]
async fn a_lost_kubernetes_api_is_told_within_the_deadline_and_service_resumes() {
    let (fake, backend) = backend().await;
    *fake.0.lost.lock().unwrap() = true;
    fake.send(
        "ERROR",
        &json!({"status": "Failure", "code": 500, "reason": "InternalError", "message": "gone"}),
    );
    let began = Instant::now();
    assert_eq!(
        execute(&backend, job("cex-1")).await,
        Err(BackendError::Unavailable)
    );
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(backend.ready().is_err());
    let all = crate::backend::Query {
        user: Some("alice".to_owned()),
        stage: None,
        since: None,
        after: None,
        limit: 10,
    };
    let away = Some(BackendError::Unavailable);
    assert_eq!(backend.get("cex-2").await.err(), away);
    assert_eq!(backend.list(all).await.err(), away);
    assert_eq!(backend.cancel("cex-2").await.err(), away);
    assert_eq!(backend.rejoin(job("cex-2")).await.err(), away);
    *fake.0.lost.lock().unwrap() = false;
    fake.called("watch", 2).await;
    // What may have been created without an answer is not left to run some time later.
    fake.called("patch cex-1", 1).await;
    let answer = sent(&fake, &backend).await;
    fake.end(Phase::Succeeded, Reason::Completed, true);
    assert!(answer.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_unless_the_server_stops() {
    let (fake, backend) = backend().await;
    sent(&fake, &backend).await.abort();
    fake.called(
        &format!("patch {} {{\"spec\":{{\"cancel\":true}}}}", fake.name()),
        1,
    )
    .await;
    assert!(backend.replica.waiters.names().is_empty());

    let (fake, backend) = self::backend().await;
    let answer = sent(&fake, &backend).await;
    backend.replica.stopping.cancel();
    answer.abort();
    assert!(answer.await.unwrap_err().is_cancelled());
    assert_eq!(fake.calls("patch"), 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_stall_the_watch() {
    let (fake, backend) = backend().await;
    fake.send(
        "MODIFIED",
        &json!({"metadata": {"name": "x"}, "status": {"phase": "Exploded"}}),
    );
    fake.called("watch", 2).await;
    let answer = sent(&fake, &backend).await;
    fake.end(Phase::TimedOut, Reason::DeadlineExceeded, true);
    assert!(answer.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_never_ends_is_given_up_and_its_record_stays() {
    let (fake, backend) = backend().await;
    let began = Instant::now();
    let answer = sent(&fake, &backend).await;
    assert_eq!(answer.await.unwrap(), Err(BackendError::NoResult));
    assert_eq!(began.elapsed().as_secs(), 60 + 30 + 20);
    assert_eq!(fake.calls("patch"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_watch_missed_is_found_by_the_waiter_itself() {
    let (fake, backend) = backend().await;
    let answer = sent(&fake, &backend).await;
    fake.end(Phase::Succeeded, Reason::Completed, false);
    assert!(answer.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_traced_request_names_its_span_in_the_execution() {
    let job = Job {
        id: "cex-1".to_owned(),
        spec: CodeExecutionSpec::python("print(1)"),
        live: false,
    };
    let settings = codeexec_trace::TraceSettings {
        // Nothing listens on this port of this machine.
        otlp_endpoint: Some("http://127.0.0.1:9".parse().unwrap()),
        trace_ratio: 0.0,
    };
    let tracing = codeexec_trace::Tracing::start(&settings, "test")
        .unwrap()
        .unwrap();
    let parent = |execution: &CodeExecution| execution.annotations().get(ANNOTATION_TRACEPARENT).cloned();
    let client = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let span = tracing.request(Some(client), "POST", "/api/execute");
    let traced = span.cover(async { object(&job, "replica") }).await;
    let header = parent(&traced).unwrap();
    assert!(header.starts_with(&client[..36]) && header != client, "{header}");
    assert_eq!(parent(&object(&job, "replica")), None);
}
