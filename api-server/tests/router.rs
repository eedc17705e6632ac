//! What clients see, whatever the backend: statuses, bodies and headers.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{Request, header};
use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::auth::Authenticator;
use codeexec_api::backend::{
    Backend, BackendError, End, Execution, Job, Keep, Listed, Page, Progress, Query, Started,
};
use codeexec_api::metrics::Metrics;
use codeexec_api::settings::Settings;
use codeexec_api::usage::{Ledger, Source, Usage};
use codeexec_crds::{CodeExecutionStatus, Phase, Reason};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

mod common;

#[path = "router/audit.rs"]
mod audit;
#[path = "router/browsers.rs"]
mod browsers;
#[path = "router/events.rs"]
mod events;
#[path = "router/executions.rs"]
mod executions;
#[path = "router/limits.rs"]
mod limits;
#[path = "router/openapi.rs"]
mod openapi;
#[path = "router/playground.rs"]
mod playground;

/// Answers every program in the same way, and remembers them.
struct Scripted {
    answer: Box<dyn Fn() -> Result<CodeExecutionStatus, BackendError> + Send + Sync>,
    jobs: Mutex<Vec<Job>>,
    /// What can be looked at, listed and cancelled; whatever runs is not among it.
    executions: Mutex<BTreeMap<String, Execution>>,
    /// What happens to those that have not ended.
    progress: Mutex<Vec<Progress>>,
    queries: Mutex<Vec<Query>>,
    cancelled: Mutex<Vec<String>>,
    ready: Result<(), String>,
}

impl Scripted {
    /// The job of that name from before, if it was the same.
    fn known(&self, job: &Job) -> Result<Option<Started>, BackendError> {
        let jobs = self.jobs.lock().unwrap();
        let Some(known) = jobs.iter().find(|known| known.id == job.id) else {
            return Ok(None);
        };
        if known.spec != job.spec {
            return Err(BackendError::KeyReused);
        }
        let end = (self.answer)();
        Ok(Some(Started {
            is_new: false,
            end: async { end }.boxed(),
        }))
    }

    fn add(&self, id: &str, user: &str, phase: Phase) {
        let ended = phase.is_terminal();
        let execution = Execution {
            id: id.to_owned(),
            user: user.to_owned(),
            created: "2026-01-31T12:00:00Z".parse().unwrap(),
            status: CodeExecutionStatus {
                phase: Some(phase),
                reason: ended.then_some(Reason::Completed),
                output: ended.then(|| "Hello\n".to_owned()),
                queue_position: (phase == Phase::Queued).then_some(3),
                ..CodeExecutionStatus::default()
            },
        };
        self.executions.lock().unwrap().insert(id.to_owned(), execution);
    }
}

impl Backend for Scripted {
    fn start(&self, job: Job, _: Keep) -> BoxFuture<'_, Result<Started, BackendError>> {
        let known = self.known(&job);
        let end = (self.answer)();
        async {
            if let Some(started) = known? {
                return Ok(started);
            }
            self.jobs.lock().unwrap().push(job);
            let status = end?;
            Ok(Started {
                is_new: true,
                end: async { Ok(status) }.boxed(),
            })
        }
        .boxed()
    }

    fn rejoin(&self, job: Job) -> BoxFuture<'_, Result<Option<Started>, BackendError>> {
        let known = self.known(&job);
        async { known }.boxed()
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Execution>, BackendError>> {
        let found = self.executions.lock().unwrap().get(id).cloned();
        async { Ok(found) }.boxed()
    }

    fn follow(&self, _: &str, next_seq: u64, progress_tx: mpsc::Sender<Progress>) -> End {
        let progress = self.progress.lock().unwrap().clone();
        let end = (self.answer)();
        async move {
            for progress in progress {
                match progress {
                    Progress::Printed(output) if output.seq < next_seq => {}
                    progress => progress_tx.send(progress).await.unwrap(),
                }
            }
            end
        }
        .boxed()
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BackendError>> {
        let executions = self.executions.lock().unwrap();
        let items = executions.values().map(|execution| Listed {
            id: execution.id.clone(),
            user: execution.user.clone(),
            phase: execution.phase(),
            reason: execution.status.reason,
            created: execution.created,
        });
        let items = items.filter(|listed| query.matches(listed)).collect();
        self.queries.lock().unwrap().push(query);
        let next = Some("there is more".to_owned());
        async { Ok(Page { items, next }) }.boxed()
    }

    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        self.cancelled.lock().unwrap().push(id.to_owned());
        async { Ok(()) }.boxed()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.clone()
    }
}

struct Server {
    app: App,
    router: Router,
    backend: Arc<Scripted>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

fn server(
    answer: impl Fn() -> Result<CodeExecutionStatus, BackendError> + Send + Sync + 'static,
    ready: Result<(), String>,
) -> Server {
    server_with(&["--rate-limit", "0"], answer, ready)
}

fn server_with(
    flags: &[&str],
    answer: impl Fn() -> Result<CodeExecutionStatus, BackendError> + Send + Sync + 'static,
    ready: Result<(), String>,
) -> Server {
    server_for(Authenticator::anonymous(), flags, answer, ready)
}

fn server_for(
    auth: Authenticator,
    flags: &[&str],
    answer: impl Fn() -> Result<CodeExecutionStatus, BackendError> + Send + Sync + 'static,
    ready: Result<(), String>,
) -> Server {
    let backend = Arc::new(Scripted {
        answer: Box::new(answer),
        jobs: Mutex::default(),
        executions: Mutex::default(),
        progress: Mutex::default(),
        queries: Mutex::default(),
        cancelled: Mutex::default(),
        ready,
    });
    let stopping = CancellationToken::new();
    let (ledger, metrics) = (Arc::new(Ledger::default()), Arc::new(Metrics::new(false)));
    let flags = [&["codeexec-api", "--body-limit-bytes", "1024"], flags].concat();
    let settings = Settings::parse_from(flags);
    let app = App {
        auth: Arc::new(auth),
        usage: Arc::new(Usage::new(Source::Ledger(ledger.clone()), 100_000.0)),
        metrics: metrics.clone(),
        stopping: stopping.clone(),
        ..common::app(backend.clone(), &settings)
    };
    Server {
        router: routed(&app),
        app,
        backend,
        ledger,
        metrics,
        stopping,
    }
}

/// As if every request came from this machine.
fn routed(app: &App) -> Router {
    let here = SocketAddr::from(([127, 0, 0, 1], 4711));
    app.clone().router().layer(MockConnectInfo(here))
}

fn succeeded() -> Result<CodeExecutionStatus, BackendError> {
    Ok(CodeExecutionStatus {
        phase: Some(Phase::Succeeded),
        reason: Some(Reason::Completed),
        output: Some("Hello\n".to_owned()),
        exit_code: Some(0),
        ..CodeExecutionStatus::default()
    })
}

fn good() -> Server {
    server(succeeded, Ok(()))
}

struct Answer {
    status: u16,
    body: Value,
    headers: axum::http::HeaderMap,
}

impl Server {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn post(&self, body: impl Into<Body>) -> Answer {
        self.send(request("POST", "/api/execute", "application/json", body))
            .await
    }
}

fn request(method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap()
}

const HELLO: &str = r#"{"code": "print('Hello')", "language": "python"}"#;

#[tokio::test]
async fn a_program_is_run_and_answered() {
    let server = good();
    let answer = server.post(HELLO).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(
        (&answer.body["status"], &answer.body["output"]),
        (&json!("success"), &json!("Hello\n"))
    );
    assert!(answer.body.get("error").is_none());
    assert!(answer.body["executionTime"].is_u64());
    let jobs = server.backend.jobs.lock().unwrap();
    assert_eq!(answer.body["id"], jobs[0].id);
    assert_eq!(jobs[0].spec.user, "anonymous:127.0.0.1");
}

#[tokio::test]
async fn bad_requests_are_answered_in_one_shape_and_run_nothing() {
    let server = good();
    let bound = format!(r#"{{"code": "{}", "language": "python"}}"#, "x".repeat(2000));
    let json_type = "application/json";
    for (request, status, code, error) in [
        (
            request("POST", "/api/execute", json_type, "{}"),
            400,
            "invalid_request",
            "Code is required",
        ),
        (
            request(
                "POST",
                "/api/execute",
                json_type,
                r#"{"code": "1", "language": "ruby"}"#,
            ),
            400,
            "invalid_request",
            "Only Python is supported currently",
        ),
        (
            request("POST", "/api/execute", json_type, ""),
            400,
            "invalid_request",
            "the request body is empty",
        ),
        (
            request(
                "POST",
                "/api/execute",
                json_type,
                r#"{"code": "1", "language": "python", "timeout": 31}"#,
            ),
            400,
            "invalid_request",
            "timeout must be",
        ),
        (
            request(
                "POST",
                "/api/execute",
                json_type,
                r#"{"code": "1", "language": "python", "files": [{"path": "../x", "content": ""}]}"#,
            ),
            400,
            "invalid_request",
            "files[0].path must stay below",
        ),
        (
            request("POST", "/api/execute", json_type, bound),
            413,
            "body_too_large",
            "the request body must be at most",
        ),
        (
            request("POST", "/api/execute", "text/plain", HELLO),
            415,
            "unsupported_media_type",
            "Content-Type",
        ),
        (
            request("PUT", "/api/execute", json_type, HELLO),
            405,
            "method_not_allowed",
            "this path",
        ),
        (
            request("DELETE", "/healthz", json_type, ""),
            405,
            "method_not_allowed",
            "this path",
        ),
        (
            request("POST", "/api/run", json_type, HELLO),
            404,
            "not_found",
            "there is nothing",
        ),
        (
            request("GET", "/", json_type, ""),
            404,
            "not_found",
            "there is nothing",
        ),
    ] {
        let (method, path) = (request.method().clone(), request.uri().clone());
        let answer = server.send(request).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &json!(code)),
            "{method} {path}"
        );
        let text = answer.body["error"].as_str().unwrap();
        assert!(text.starts_with(error), "{method} {path}: {text}");
    }
    assert!(server.backend.jobs.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_grows_too_large_in_pieces_is_refused() {
    let pieces = futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 100])));
    let answer = good().post(Body::from_stream(pieces)).await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (413, &json!("body_too_large"))
    );
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let answer = good()
        .send(request("PUT", "/api/execute", "application/json", HELLO))
        .await;
    let allowed = answer.headers[header::ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn what_the_platform_did_not_run_is_a_503_with_retry_after() {
    let unschedulable = || {
        Ok(CodeExecutionStatus {
            phase: Some(Phase::Failed),
            reason: Some(Reason::Unschedulable),
            error: Some("no node had room for the Pod".to_owned()),
            retryable: Some(true),
            ..CodeExecutionStatus::default()
        })
    };
    let answer = server(unschedulable, Ok(())).post(HELLO).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "10");
    assert_eq!(answer.body["reason"], "Unschedulable");
    assert!(answer.body["id"].as_str().unwrap().starts_with("cex-"));

    let answer = server(|| Err(BackendError::Busy { retry_after: 2 }), Ok(()))
        .post(HELLO)
        .await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("busy")));
    assert_eq!(answer.headers[header::RETRY_AFTER], "2");
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_tells_nothing() {
    let answer = server(|| panic!("secret"), Ok(())).post(HELLO).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.body,
        json!({"error": "Internal server error", "code": "internal"})
    );
}

#[tokio::test]
async fn health_is_what_the_plan_says() {
    let answer = good()
        .send(request("GET", "/api/execute", "text/plain", ""))
        .await;
    assert_eq!(answer.status, 200);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        answer.body,
        json!({"status": "ok", "service": "code-executor", "version": version})
    );
}

#[tokio::test]
async fn readiness_follows_the_backend_and_ends_with_the_shutdown() {
    let probe = |path: &'static str| request("GET", path, "text/plain", "");
    let server = good();
    assert_eq!(server.send(probe("/readyz")).await.status, 200);
    server.stopping.cancel();
    assert_eq!(server.send(probe("/readyz")).await.status, 503);
    let down = self::server(
        || Err(BackendError::Unavailable),
        Err("the watch is down".to_owned()),
    );
    let answer = down.send(probe("/readyz")).await;
    assert_eq!(
        (answer.status, &answer.body["error"]),
        (503, &json!("the watch is down"))
    );
    assert_eq!(down.send(probe("/healthz")).await.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_route_status_and_error() {
    let server = good();
    server.post(HELLO).await;
    server.post("{").await;
    for path in ["/no/such/path", "/nor/this"] {
        server.send(request("BREW", path, "text/plain", "")).await;
    }
    let text = server.metrics.text();
    for line in [
        "codeexec_api_requests_total{method=\"POST\",path=\"/api/execute\",status=\"200\"} 1",
        "codeexec_api_requests_total{method=\"POST\",path=\"/api/execute\",status=\"400\"} 1",
        "codeexec_api_requests_total{method=\"other\",path=\"other\",status=\"404\"} 2",
        "codeexec_api_request_duration_seconds_count{method=\"POST\",path=\"/api/execute\"} 2",
        "codeexec_api_errors_total{code=\"invalid_request\"} 1",
        "codeexec_api_errors_total{code=\"not_found\"} 2",
        "codeexec_api_requests_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_public_port_serves_no_metrics() {
    let answer = good().send(request("GET", "/metrics", "text/plain", "")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn usage_is_told_to_its_user_and_to_administrators() {
    let flags = "codeexec-api --backend local --auth proxy --trusted-proxies 127.0.0.1 --admins root";
    let settings = Settings::parse_from(flags.split(' '));
    let plan = settings.auth.plan(settings.backend).unwrap();
    let auth = Authenticator::start(plan, None).await.unwrap();
    let server = server_for(auth, &[], || Ok(CodeExecutionStatus::default()), Ok(()));
    let ran = CodeExecutionStatus {
        phase: Some(Phase::Succeeded),
        usage: Some(codeexec_crds::Usage {
            vcpu_seconds: 2.0,
            cost: 0.5,
            ..Default::default()
        }),
        ..CodeExecutionStatus::default()
    };
    server.ledger.note("alice", &ran);
    server.ledger.note("bob", &ran);
    let ask = |query: &str, user: &str| {
        let path = format!("/api/usage?to=2100-01-01{query}");
        let mut request = request("GET", &path, "text/plain", "");
        let name = settings.auth.proxy_user_header.clone();
        request.headers_mut().insert(name, user.parse().unwrap());
        server.send(request)
    };
    let own = ask("", "alice").await;
    assert_eq!(own.status, 200);
    assert_eq!(own.body["total"]["executions"], 1);
    assert_eq!(
        own.body["users"][0],
        json!({"user": "alice", "executions": 1, "succeeded": 1, "failed": 0,
        "timedOut": 0, "cancelled": 0, "vcpuSeconds": 2.0, "cost": 0.5})
    );
    assert_eq!(ask("&user=bob", "alice").await.status, 403);
    let all = ask("", "root").await;
    assert_eq!(all.body["total"]["executions"], 2);
    assert_eq!(
        all.body["billable"],
        json!({"freeVcpuSecondsPerMonth": 100_000.0, "vcpuSeconds": 0.0, "cost": 0.0})
    );
    assert_eq!(ask("&user=bob", "root").await.body["users"][0]["user"], "bob");
    for (query, field) in [
        ("&from=soon", "from"),
        ("&from=2101-01-01", "from"),
        ("&whose=bob", "whose"),
    ] {
        let refused = ask(query, "alice").await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(
            refused.body["error"].as_str().unwrap().contains(field),
            "{}",
            refused.body
        );
    }
}
