//! The audit trail of requests, and that nothing secret is in the log.

use std::io::{self, Write};

use codeexec_api::auth::api_keys::{KeyHash, new_key};
use codeexec_execution::code_sha256;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// A log of everything that this thread does from here on, for as long as the guard is kept.
    fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let (lines, rest) = (log.clone(), log.clone());
        let filter = EnvFilter::new("trace").add_directive(codeexec_audit::OFF_ELSEWHERE.parse().unwrap());
        let json = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(move || rest.clone());
        let subscriber = tracing_subscriber::registry()
            .with(json.with_filter(filter))
            .with(codeexec_audit::layer(move || lines.clone()));
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of the trail since it was asked for last.
    fn take(&self) -> Vec<Value> {
        let text = self.text();
        self.0.lock().unwrap().clear();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["target"] == "audit").collect()
    }
}

/// A server that knows alice by this key, and users of a proxy at 127.0.0.1.
async fn server_that_knows(key: &str, flags: &[&str]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let keys = json!({"alice": {"hashes": [KeyHash::of(key).to_string()]}});
    std::fs::write(&path, keys.to_string()).unwrap();
    let own = [
        "codeexec-api",
        "--backend",
        "local",
        "--auth",
        "api-keys,proxy",
        "--api-keys-file",
        path.to_str().unwrap(),
        "--trusted-proxies",
        "127.0.0.1",
    ];
    let settings = Settings::parse_from(own);
    let plan = settings.auth.plan(settings.backend).unwrap();
    let auth = Authenticator::start(plan, None).await.unwrap();
    server_for(auth, flags, succeeded, Ok(()))
}

fn with(mut request: Request<Body>, headers: &[(&'static str, &str)]) -> Request<Body> {
    for (name, value) in headers {
        // Not from_str: that takes ASCII only.
        let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().insert(*name, value);
    }
    request
}

#[tokio::test]
async fn every_request_leaves_one_line_that_says_who_asked_and_how_it_was_answered() {
    let key = new_key();
    let bearer = format!("Bearer {key}");
    let server = server_that_knows(&key, &["--rate-limit", "1"]).await;
    let (log, _guard) = Log::of_this_thread();
    let json_type = "application/json";
    let known = [("authorization", bearer.as_str())];
    let hash = code_sha256("print('Hello')");
    let refused = r#"{"code": "print('Hello')", "language": "python", "timeout": 31}"#;
    for (request, headers, status, error_code, user, code) in [
        (
            request("POST", "/api/execute?x=y", json_type, HELLO),
            &known[..],
            200,
            None,
            Some("alice"),
            Some(&hash),
        ),
        (
            request("POST", "/api/execute", json_type, HELLO),
            &known,
            429,
            Some("rate_limited"),
            Some("alice"),
            Some(&hash),
        ),
        (
            request("POST", "/api/execute", json_type, refused),
            &known,
            400,
            Some("invalid_request"),
            Some("alice"),
            None,
        ),
        (
            request("POST", "/api/executions", json_type, "{"),
            &known,
            400,
            Some("invalid_request"),
            Some("alice"),
            None,
        ),
        (
            request("POST", "/api/execute", "text/plain", HELLO),
            &known,
            415,
            Some("unsupported_media_type"),
            Some("alice"),
            None,
        ),
        (
            request("POST", "/api/execute", json_type, HELLO),
            &[],
            401,
            Some("unauthenticated"),
            None,
            None,
        ),
        (
            request("GET", "/api/executions/none", json_type, ""),
            &known,
            404,
            Some("not_found"),
            Some("alice"),
            None,
        ),
        (
            request("GET", "/api/execute", json_type, ""),
            &[],
            200,
            None,
            None,
            None,
        ),
        (
            request("BREW", "/%0a%1b[2K", json_type, ""),
            &[],
            404,
            Some("not_found"),
            None,
            None,
        ),
        (
            request("PUT", "/api/execute", json_type, ""),
            &[],
            405,
            Some("method_not_allowed"),
            None,
            None,
        ),
    ] {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let answer = server.send(with(request, headers)).await;
        let lines = log.take();
        let what = format!("{method} {path}: {lines:?}");
        assert_eq!((answer.status, lines.len()), (status, 1), "{what}");
        let line = &lines[0];
        assert_eq!(
            (&line["event"], &line["peer"]),
            (&json!("request"), &json!("127.0.0.1")),
            "{what}"
        );
        assert_eq!(
            (&line["method"], &line["path"]),
            (&json!(method), &json!(path)),
            "{what}"
        );
        assert_eq!(
            (&line["status"], &line["error_code"]),
            (&json!(status), &json!(error_code)),
            "{what}"
        );
        assert_eq!(
            (&line["user"], line["via"].is_string()),
            (&json!(user), user.is_some()),
            "{what}"
        );
        if let Some(code) = code {
            assert_eq!(&line["code_sha256"], code, "{what}");
        }
        if status == 200 && user.is_some() {
            assert_eq!(line["execution"], answer.body["id"], "{what}");
        }
        assert!(line["ms"].is_u64(), "{what}");
    }
    for probe in ["/healthz", "/readyz"] {
        server.send(request("GET", probe, json_type, "")).await;
        assert_eq!(log.take(), [] as [Value; 0]);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_its_line_too() {
    let server = server(|| Err(BackendError::NoResult), Ok(()));
    let (log, _guard) = Log::of_this_thread();
    let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, io::Error>>());
    let request = request("POST", "/api/execute", "application/json", endless);
    let mut answer = Box::pin(server.router.clone().oneshot(request));
    assert!(futures::poll!(answer.as_mut()).is_pending());
    drop(answer);
    let lines = log.take();
    assert_eq!((lines.len(), &lines[0]["status"]), (1, &json!(499)), "{lines:?}");
    assert_eq!(lines[0]["user"], "anonymous:127.0.0.1");
}

#[tokio::test]
async fn a_name_and_an_address_from_a_proxy_forge_nothing() {
    let server = server_that_knows(&new_key(), &[]).await;
    let (log, _guard) = Log::of_this_thread();
    let name = "al\u{202e}ice\",\"user\":\"root";
    let headers = [("x-codeexec-user", name), ("x-forwarded-for", "203.0.113.9")];
    let answer = server.send(with(
        request("POST", "/api/execute", "application/json", HELLO),
        &headers,
    ));
    assert_eq!(answer.await.status, 200);
    let text = log.text();
    let escaped = r#"al\u202eice\",\"user\":\"root"#;
    assert!(text.lines().any(|line| line.contains(escaped)), "{text}");
    let lines = log.take();
    assert_eq!((lines.len(), &lines[0]["user"]), (1, &json!(name)));
    assert_eq!(
        (&lines[0]["peer"], &lines[0]["client"]),
        (&json!("127.0.0.1"), &json!("203.0.113.9"))
    );
}

#[tokio::test]
async fn nothing_that_is_secret_stands_anywhere_in_the_log() {
    let key = new_key();
    let server = server_that_knows(&key, &["--rate-limit", "0"]).await;
    let printed = || {
        let status = succeeded()?;
        Ok(CodeExecutionStatus {
            output: Some("SECRET-output".to_owned()),
            stderr: Some("SECRET-stderr".to_owned()),
            error: Some("SECRET-error".to_owned()),
            ..status
        })
    };
    let talkative = server_with(&["--rate-limit", "0"], printed, Ok(()));
    let failing = server_with(
        &["--rate-limit", "0"],
        || Err(BackendError::Refused("SECRET-refusal".to_owned())),
        Ok(()),
    );
    let panicking = server_with(&["--rate-limit", "0"], || panic!("SECRET-panic"), Ok(()));
    let (log, _guard) = Log::of_this_thread();
    let program = json!({
        "code": "print('SECRET-code')", "language": "python", "stdin": "SECRET-stdin",
        "args": ["SECRET-arg"], "env": {"SECRET_NAME": "SECRET-value"},
        "files": [{"path": "SECRET-path", "content": "U0VDUkVU"}],
    });
    let wrong = json!({"code": "print('SECRET-code')", "SECRET-field": 1});
    let bearer = format!("Bearer {key}");
    let token = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJTRUNSRVQifQ.SECRET";
    for authorization in [&bearer, token, "Basic SECRET", "Bearer cex_SECRET", "SECRET"] {
        for body in [program.to_string(), wrong.to_string(), "SECRET".to_owned()] {
            for path in ["/api/execute?key=SECRET&SECRET", "/api/executions?SECRET"] {
                let request = request("POST", path, "application/json", body.clone());
                let headers = [
                    ("authorization", authorization),
                    ("cookie", "SECRET"),
                    ("x-api-key", "SECRET"),
                    ("idempotency-key", "SECRET-key"),
                    ("referer", "https://SECRET"),
                    ("user-agent", "SECRET"),
                    ("traceparent", "SECRET"),
                ];
                for server in [&server, &talkative, &failing, &panicking] {
                    let request = with(clone(&request, &body), &headers);
                    server.send(request).await;
                }
            }
        }
    }
    let get = request(
        "GET",
        &format!("/api/executions/{key}?user=SECRET"),
        "text/plain",
        "",
    );
    server.send(with(get, &[("authorization", &bearer)])).await;
    let text = log.text();
    assert!(text.lines().count() > 100, "{text}");
    for secret in ["SECRET", "U0VDUkVU", &key, "eyJ", "cex_"] {
        let found = text.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
    }
}

fn clone(request: &Request<Body>, body: &str) -> Request<Body> {
    let mut copy = super::request(
        request.method().as_str(),
        &request.uri().to_string(),
        "application/json",
        body.to_owned(),
    );
    *copy.headers_mut() = request.headers().clone();
    copy
}
