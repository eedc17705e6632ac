//! Who is let in, as clients see it: statuses, bodies and headers, and the user that a program runs as.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{HeaderMap, Request, header};
use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::auth::Authenticator;
use codeexec_api::auth::api_keys::{KeyHash, new_key};
use codeexec_api::backend::{End, Execution, Job};
use codeexec_api::settings::Settings;
use codeexec_crds::{CodeExecutionStatus, Phase, Reason};
use futures::FutureExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

mod common;
#[path = "common/only.rs"]
mod only;

use only::{Only, Runs};

const HELLO: &str = r#"{"code": "print('Hello')", "language": "python"}"#;

/// Remembers whom it ran programs for.
#[derive(Default)]
struct Users(Mutex<Vec<String>>);

impl Runs for Users {
    fn run(&self, job: Job) -> End {
        self.0.lock().unwrap().push(job.spec.user);
        let status = CodeExecutionStatus {
            phase: Some(Phase::Succeeded),
            reason: Some(Reason::Completed),
            exit_code: Some(0),
            ..CodeExecutionStatus::default()
        };
        async { Ok(status) }.boxed()
    }

    /// Bob's is the only one.
    fn record(&self, id: &str) -> Option<Execution> {
        (id == "cex-bob").then(|| Execution {
            id: id.to_owned(),
            user: "bob".to_owned(),
            created: jiff::Timestamp::UNIX_EPOCH,
            status: CodeExecutionStatus::default(),
        })
    }
}

struct Server {
    router: Router,
    users: Arc<Users>,
    /// A key of alice's.
    key: String,
    /// One of an administrator's.
    root: String,
    /// One of a user who may begin one execution a minute.
    limited: String,
    _folder: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

/// A server with these ways on, for clients behind `peer`.
async fn server(ways: &str, peer: [u8; 4]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path().join("keys.json"), new_key());
    let (root, limited) = (new_key(), new_key());
    let keys = json!({
        "alice": {"hashes": [KeyHash::of(&key).to_string()]},
        "root": {"hashes": [KeyHash::of(&root).to_string()], "admin": true},
        "carol": {"hashes": [KeyHash::of(&limited).to_string()], "perMinute": 1},
    });
    fs::write(&path, keys.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let mut flags = vec![
        "codeexec-api",
        "--backend",
        "local",
        "--auth",
        ways,
        "--rate-limit",
        "0",
        "--body-limit-bytes",
        "1024",
    ];
    flags.extend(["--trusted-proxies", "10.0.0.0/8"]);
    if ways.contains("api-keys") {
        flags.extend(["--api-keys-file", path]);
    }
    let settings = Settings::parse_from(flags);
    let plan = settings.auth.plan(settings.backend).unwrap();
    let users = Arc::new(Users::default());
    let app = App {
        auth: Arc::new(Authenticator::start(plan, None).await.unwrap()),
        ..common::app(Arc::new(Only(users.clone())), &settings)
    };
    let peer = SocketAddr::from((peer, 4711));
    Server {
        router: app.router().layer(MockConnectInfo(peer)),
        users,
        key,
        root,
        limited,
        _folder: folder,
    }
}

impl Server {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(HELLO)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    /// The user that a program sent with these headers ran as, or the status and code of the refusal.
    async fn user(&self, headers: &[(&str, &str)]) -> Result<String, (u16, Value)> {
        let answer = self.send("POST", "/api/execute", headers).await;
        let user = self.users.0.lock().unwrap().pop();
        match answer.status {
            200 => Ok(user.unwrap()),
            status => {
                assert_eq!(user, None, "refused, and run all the same");
                Err((status, answer.body["code"].clone()))
            }
        }
    }
}

fn unauthenticated<T>() -> Result<T, (u16, Value)> {
    Err((401, json!("unauthenticated")))
}

const CLIENT: [u8; 4] = [203, 0, 113, 9];
const PROXY: [u8; 4] = [10, 1, 2, 3];

#[tokio::test]
async fn without_a_credential_there_is_a_401_that_says_what_to_send() {
    let server = server("api-keys", CLIENT).await;
    let answer = server.send("POST", "/api/execute", &[]).await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (401, &json!("unauthenticated"))
    );
    assert!(
        answer.body["error"]
            .as_str()
            .unwrap()
            .contains("Authorization: Bearer")
    );
    assert_eq!(
        answer.headers[header::WWW_AUTHENTICATE],
        r#"Bearer realm="codeexec""#
    );
    let answer = server
        .send("POST", "/api/execute", &[("authorization", "Bearer cex_secret")])
        .await;
    assert_eq!(answer.status, 401);
    let challenge = answer.headers[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
    assert!(!answer.body.to_string().contains("cex_secret"));
}

#[tokio::test]
async fn health_is_for_everybody() {
    let server = server("api-keys", CLIENT).await;
    for path in ["/api/execute", "/healthz", "/readyz"] {
        assert_eq!(server.send("GET", path, &[]).await.status, 200, "{path}");
        let wrong = [("authorization", "Bearer wrong")];
        assert_eq!(server.send("GET", path, &wrong).await.status, 200, "{path}");
    }
    assert_eq!(server.send("GET", "/nothing", &[]).await.status, 404);
    let answer = server.send("PUT", "/api/execute", &[]).await;
    assert_eq!(answer.status, 405);
    let allowed = answer.headers[header::ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn a_key_is_its_user_and_a_wrong_one_nobody() {
    let server = server("api-keys,anonymous", CLIENT).await;
    let good = format!("Bearer {}", server.key);
    assert_eq!(
        server.user(&[("authorization", &good)]).await.as_deref(),
        Ok("alice")
    );
    assert_eq!(server.user(&[]).await.as_deref(), Ok("anonymous:203.0.113.9"));
    // What is there and not good is never taken for nothing.
    let other = format!("Bearer {}", new_key());
    let shorter = &good[..good.len() - 1];
    for wrong in [
        "",
        "Bearer",
        "Bearer x",
        "Basic YTpi",
        &other,
        shorter,
        &server.key,
    ] {
        assert_eq!(
            server.user(&[("authorization", wrong)]).await,
            unauthenticated(),
            "{wrong}"
        );
    }
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    assert_eq!(server.user(&twice).await, unauthenticated());
}

#[tokio::test]
async fn a_listed_proxy_names_its_users_and_nobody_else_does() {
    let header = [("x-codeexec-user", "bob")];
    let behind = server("proxy,api-keys", PROXY).await;
    assert_eq!(behind.user(&header).await.as_deref(), Ok("bob"));
    assert_eq!(behind.user(&[]).await, unauthenticated());
    assert_eq!(behind.user(&[("x-codeexec-user", "")]).await, unauthenticated());
    let twice = [("x-codeexec-user", "bob"), ("x-codeexec-user", "alice")];
    assert_eq!(behind.user(&twice).await, unauthenticated());
    // One of the two would be ignored.
    let key = format!("Bearer {}", behind.key);
    let both = [("authorization", key.as_str()), ("x-codeexec-user", "bob")];
    assert_eq!(behind.user(&both).await, unauthenticated());

    let outside = server("proxy,api-keys", CLIENT).await;
    assert_eq!(outside.user(&header).await, unauthenticated());
    let key = format!("Bearer {}", outside.key);
    let both = [("authorization", key.as_str()), ("x-codeexec-user", "bob")];
    assert_eq!(outside.user(&both).await.as_deref(), Ok("alice"));
    let through_us = [("x-codeexec-user", "bob"), ("x-forwarded-for", "10.1.2.3")];
    assert_eq!(outside.user(&through_us).await, unauthenticated());
}

#[tokio::test]
async fn anonymous_is_the_address_that_the_last_unlisted_hop_came_from() {
    let direct = server("anonymous", CLIENT).await;
    let forged = [("x-forwarded-for", "198.51.100.1")];
    assert_eq!(direct.user(&forged).await.as_deref(), Ok("anonymous:203.0.113.9"));
    let behind = server("anonymous", PROXY).await;
    let forged = [("x-forwarded-for", "6.6.6.6, 198.51.100.1, 10.9.9.9")];
    assert_eq!(
        behind.user(&forged).await.as_deref(),
        Ok("anonymous:198.51.100.1")
    );
    let v6 = [("x-forwarded-for", "2001:db8:1:2:3:4:5:6")];
    assert_eq!(
        behind.user(&v6).await.as_deref(),
        Ok("anonymous:2001:db8:1:2::/64")
    );
    // Where nobody has keys, whoever shows one is told.
    let wrong = [("authorization", "Bearer x")];
    assert_eq!(behind.user(&wrong).await, unauthenticated());
}

#[tokio::test]
async fn a_refused_body_of_a_usual_size_is_read_so_that_its_client_sees_the_answer() {
    let server = server("api-keys", CLIENT).await;
    let read = Arc::new(Mutex::new(0));
    let counted = read.clone();
    let pieces = futures::stream::iter((0..64).map(move |_| {
        *counted.lock().unwrap() += 1;
        Ok::<_, std::io::Error>(vec![b' '; 1024])
    }));
    let request = Request::post("/api/execute")
        .body(Body::from_stream(pieces))
        .unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!((response.status().as_u16(), *read.lock().unwrap()), (401, 64));
}

#[tokio::test]
async fn executions_are_for_whoever_is_let_in_and_for_their_owner_or_an_administrator() {
    let server = server("api-keys", [192, 0, 2, 1]).await;
    let bearer = |key: &str| format!("Bearer {key}");
    let (alice, root) = (bearer(&server.key), bearer(&server.root));
    for (method, path) in [
        ("POST", "/api/executions"),
        ("GET", "/api/executions"),
        ("GET", "/api/executions/cex-bob"),
        ("DELETE", "/api/executions/cex-bob"),
    ] {
        assert_eq!(
            server.send(method, path, &[]).await.status,
            401,
            "{method} {path}"
        );
    }
    let begun = server
        .send("POST", "/api/executions", &[("authorization", &alice)])
        .await;
    assert_eq!(begun.status, 202);
    assert_eq!(server.users.0.lock().unwrap().pop().as_deref(), Some("alice"));
    for (key, path, status) in [
        (&alice, "/api/executions/cex-bob", 404),
        (&root, "/api/executions/cex-bob", 200),
        (&alice, "/api/executions?user=alice", 200),
        (&alice, "/api/executions?user=bob", 403),
        (&root, "/api/executions?user=bob", 200),
    ] {
        let answer = server.send("GET", path, &[("authorization", key)]).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_users_own_limit_holds_in_place_of_the_servers() {
    let server = server("api-keys", [192, 0, 2, 1]).await;
    let carol = format!("Bearer {}", server.limited);
    let alice = format!("Bearer {}", server.key);
    for (key, status) in [(&carol, 200), (&carol, 429), (&alice, 200), (&alice, 200)] {
        let answer = server
            .send("POST", "/api/execute", &[("authorization", key)])
            .await;
        assert_eq!(answer.status, status);
    }
}
