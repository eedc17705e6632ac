//! The policy over HTTP: who is refused, who is warned, and that no program brings the server down.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

// Programs that are nothing but depth.
#[path = "../../policy/tests/shapes/mod.rs"]
mod shapes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{Request, header};
use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::backend::{End, Job};
use codeexec_api::settings::Settings;
use codeexec_crds::{CodeExecutionStatus, Phase, Reason};
use codeexec_policy::Policy;
use futures::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tower::ServiceExt;

mod common;
#[path = "common/only.rs"]
mod only;

use only::{Only, Runs};

/// Counts what it runs.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Runs for Counting {
    fn run(&self, _: Job) -> End {
        self.0.fetch_add(1, Ordering::Relaxed);
        let end = async {
            Ok(CodeExecutionStatus {
                phase: Some(Phase::Succeeded),
                reason: Some(Reason::Completed),
                ..CodeExecutionStatus::default()
            })
        };
        end.boxed()
    }
}

struct Server {
    router: Router,
    backend: Arc<Counting>,
}

impl Server {
    fn with(policy: Policy) -> Self {
        let backend = Arc::new(Counting::default());
        let settings = Settings::parse_from(["codeexec-api", "--rate-limit", "0"]);
        let app = App {
            policy,
            ..common::app(Arc::new(Only(backend.clone())), &settings)
        };
        let client = SocketAddr::from(([127, 0, 0, 1], 4711));
        Self {
            router: app.router().layer(MockConnectInfo(client)),
            backend,
        }
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn run(&self, code: &str) -> (u16, Value) {
        self.post("/api/execute", json!({"code": code, "language": "python"}))
            .await
    }

    fn ran(&self) -> usize {
        self.backend.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn denied_programs_do_not_run_and_the_answer_says_what_and_where() {
    let server = Server::with(Policy::Deny);
    for (code, error) in [
        ("x = 1\nimport os", "`import os` (line 2, column 1)"),
        ("import subprocess", "`import subprocess` (line 1, column 1)"),
        ("from sys import argv", "`import sys` (line 1, column 1)"),
        ("print(__import__('os'))", "`__import__` (line 1, column 7)"),
        ("x = eval('1')", "`eval(` (line 1, column 5)"),
        ("exec('1')", "`exec(` (line 1, column 1)"),
        ("compile('1', '', 'eval')", "`compile(` (line 1, column 1)"),
        ("import ｏｓ", "`import os` (line 1, column 1)"),
    ] {
        let (status, body) = server.run(code).await;
        let expected =
            json!({"error": format!("the policy does not allow {error}"), "code": "policy_violation"});
        assert_eq!((status, body), (400, expected), "{code}");
    }
    assert_eq!(server.ran(), 0);
}

#[tokio::test]
async fn what_only_looks_alike_runs_without_a_warning() {
    for policy in [Policy::Deny, Policy::Warn] {
        let server = Server::with(policy);
        for code in [
            "print('import os')",
            "import re; re.compile('a')",
            "def os(): ...",
            "print(",
        ] {
            let (status, body) = server.run(code).await;
            assert_eq!((status, body.get("warnings")), (200, None), "{code}");
        }
        assert_eq!(server.ran(), 4);
    }
}

#[tokio::test]
async fn warned_programs_run_and_the_answer_carries_a_sentence_for_each_construct() {
    let server = Server::with(Policy::Warn);
    let (status, body) = server.run("import os\nimport os\neval('1')").await;
    assert_eq!((status, &body["status"]), (200, &json!("success")));
    assert_eq!(
        body["warnings"],
        json!([
            "the policy does not allow `import os` (line 1, column 1)",
            "the policy does not allow `eval(` (line 3, column 1)"
        ])
    );
    assert_eq!(server.ran(), 1);
}

#[tokio::test]
async fn it_holds_where_nobody_waits_too() {
    let body = json!({"code": "import sys", "language": "python"});
    let sentence = "the policy does not allow `import sys` (line 1, column 1)";
    let (status, refused) = Server::with(Policy::Deny)
        .post("/api/executions", body.clone())
        .await;
    assert_eq!(
        (status, refused),
        (400, json!({"error": sentence, "code": "policy_violation"}))
    );
    let (status, begun) = Server::with(Policy::Warn).post("/api/executions", body).await;
    assert_eq!((status, &begun["warnings"]), (202, &json!([sentence])));
}

#[tokio::test]
async fn with_the_policy_off_nothing_is_looked_at() {
    let (status, body) = Server::with(Policy::Off).run("import os; eval('1')").await;
    assert_eq!((status, body.get("warnings")), (200, None));
}

#[tokio::test]
async fn a_request_that_breaks_a_bound_hears_of_that_first() {
    let server = Server::with(Policy::Deny);
    for (name, value) in [
        ("timeout", json!(31)),
        ("language", json!("ruby")),
        ("pol", json!(1)),
    ] {
        let mut body = json!({"code": "import os", "language": "python"});
        body[name] = value;
        let (status, body) = server.post("/api/execute", body).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("invalid_request")),
            "{name}"
        );
    }
    let (_, body) = server.run(&format!("import os #{}", "x".repeat(10_000))).await;
    assert_eq!(body["code"], "invalid_request");
}

/// Programs, nearly programs and no programs, as long as a request may have them.
fn code() -> impl Strategy<Value = String> {
    let pieces = || select(shapes::PIECES.to_vec());
    prop_oneof![
        any::<String>(),
        vec(any::<char>(), 0..10_001).prop_map(String::from_iter),
        vec(pieces(), 0..400).prop_map(|pieces| pieces.into_iter().map(|(open, _)| open).collect()),
        (
            select(shapes::BEGINNINGS.to_vec()),
            vec(pieces(), 1..4),
            any::<bool>()
        )
            .prop_map(|(beginning, pieces, closed)| shapes::nested(beginning, &pieces, "os", closed)),
    ]
}

proptest! {
    #[test]
    fn whatever_the_program_it_runs_or_is_refused_with_a_reason(code in code()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for policy in [Policy::Deny, Policy::Warn] {
            let (status, body) = runtime.block_on(Server::with(policy).run(&code));
            match status {
                200 => prop_assert_eq!(&body["status"], "success"),
                400 => {
                    let reason = body["code"].as_str().unwrap_or_default();
                    prop_assert!(reason == "invalid_request" || (reason == "policy_violation" && policy == Policy::Deny));
                    prop_assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()));
                }
                _ => prop_assert!(false, "{} {}", status, body),
            }
        }
    }
}
