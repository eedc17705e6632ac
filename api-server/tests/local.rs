//! Local mode as it is: the real runner in real namespaces, over HTTP requests without a socket.
//!
//! Cargo builds no other package's binary for a test, so this one has it built, into the same target folder.
//! `CODEEXEC_RUNNER` names one that is built already. Where the machine lacks what local mode needs, the tests
//! fail with the line that says what.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::backend::local::LocalBackend;
use codeexec_api::settings::Settings;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tower::ServiceExt;

fn runner() -> PathBuf {
    if let Some(path) = std::env::var_os("CODEEXEC_RUNNER") {
        return path.into();
    }
    // target/debug/deps/local-… is this test.
    let profile = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "codeexec-runner", "--target-dir"])
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the runner does not build");
    profile.with_file_name("debug").join("codeexec-runner")
}

async fn router() -> Router {
    static RUNNER: OnceCell<PathBuf> = OnceCell::const_new();
    let runner = RUNNER
        .get_or_init(|| async { tokio::task::spawn_blocking(runner).await.unwrap() })
        .await
        .to_str()
        .unwrap()
        .to_owned();
    let settings = Settings::parse_from([
        "codeexec-api",
        "--backend",
        "local",
        "--max-concurrent",
        "2",
        "--runner",
        &runner,
    ]);
    let backend = LocalBackend::start(&settings)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let app = App {
        backend: Arc::new(backend),
        body_limit: 2 * 1024 * 1024,
        stopping: Default::default(),
    };
    app.router()
}

async fn post(router: &Router, body: Value) -> Value {
    let request = Request::post("/api/execute")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

async fn run(router: &Router, code: &str) -> Value {
    post(router, json!({"code": code, "language": "python"})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_the_plan_end_as_the_plan_says() {
    let router = router().await;

    let hello = run(&router, "print(\"Hello, World!\")").await;
    assert_eq!(
        (&hello["status"], &hello["output"]),
        (&json!("success"), &json!("Hello, World!\n"))
    );
    assert_eq!(
        (&hello["exitCode"], &hello["reason"]),
        (&json!(0), &json!("Completed"))
    );
    assert!(hello.get("error").is_none());

    let raised = run(&router, "raise ValueError(\"Test error\")").await;
    assert_eq!(
        (&raised["status"], &raised["exitCode"]),
        (&json!("error"), &json!(1))
    );
    let error = raised["error"].as_str().unwrap();
    assert!(
        error.starts_with("Traceback") && error.ends_with("ValueError: Test error"),
        "{error}"
    );

    let lines = run(&router, "for i in range(1000): print(f'Line {i}')").await;
    assert_eq!(lines["output"].as_str().unwrap().lines().count(), 1000);

    let began = Instant::now();
    let body = json!({"code": "print('so far', flush=True)\nimport time; time.sleep(35)", "language": "python", "timeout": 1});
    let late = post(&router, body).await;
    assert_eq!(
        (&late["status"], &late["output"]),
        (&json!("timeout"), &json!("so far\n"))
    );
    assert_eq!(late["error"], "Execution timeout (1s limit exceeded)");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_its_input_arguments_environment_and_files() {
    let router = router().await;
    let code =
        "import os, sys\nprint(sys.stdin.read(), sys.argv[1:], os.environ['A'], open('d/f.txt').read())";
    let body = json!({"code": code, "language": "python", "stdin": "in", "args": ["x", "y z"], "env": {"A": "1"},
                      "files": [{"path": "d/f.txt", "content": "aGk="}]});
    assert_eq!(post(&router, body).await["output"], "in ['x', 'y z'] 1 hi\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sees_neither_the_network_nor_the_machine() {
    let router = router().await;
    let code = r#"
import os, socket
def attempt(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__
print(attempt(lambda: socket.create_connection(("1.1.1.1", 53), 1)))
print(attempt(lambda: os.listdir(os.environ.get("REAL_HOME", "/home"))))
print(attempt(lambda: open("/etc/passwd").read()))
for path in ["/x", "/usr/x", "/dev/x", "/etc/x"]:
    print(path, attempt(lambda: open(path, "w").close()))
print(os.getuid(), os.uname().nodename, sorted(set(os.environ) & {"CARGO", "CODEEXEC_RUNNER", "SHELL"}))
open("/code/x", "w").close(); open("/tmp/x", "w").close()
"#;
    let answer = run(&router, code).await;
    let output = answer["output"].as_str().unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(answer["status"], "success", "{answer}");
    assert!(
        lines[0].ends_with("Error") && lines[1].ends_with("Error") && lines[2].ends_with("Error"),
        "{output}"
    );
    assert!(lines[3..7].iter().all(|line| line.ends_with("Error")), "{output}");
    assert_eq!(lines[7], "1000 codeexec []");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_takes_too_much_memory_is_ended_and_says_so() {
    let router = router().await;
    let code = "import os\nblocks = []\nfor _ in range(8):\n    if os.fork() == 0:\n        block = bytearray(200 << 20)\n        import time; time.sleep(20)\nimport time; time.sleep(20)";
    let answer = run(&router, code).await;
    assert_eq!(
        (&answer["status"], &answer["reason"]),
        (&json!("error"), &json!("OutOfMemory")),
        "{answer}"
    );
}

/// Waits until this process has started that many sandboxes.
async fn wait_for_sandboxes(count: usize) {
    let started = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .map(|children| children.split_whitespace().count())
            .sum::<usize>()
    };
    let bound = Instant::now() + Duration::from_secs(20);
    while started() < count {
        assert!(Instant::now() < bound, "{count} sandboxes did not start");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_its_program() {
    let router = router().await;
    // Both turns are taken, so that the next program runs only when one of these has ended.
    let sleepers = [0, 1].map(|_| {
        let router = router.clone();
        tokio::spawn(async move { run(&router, "import time; time.sleep(20)").await })
    });
    wait_for_sandboxes(2).await;
    for sleeper in &sleepers {
        sleeper.abort();
    }
    let began = Instant::now();
    assert_eq!(run(&router, "print(1)").await["output"], "1\n");
    assert!(began.elapsed() < Duration::from_secs(5));
}
