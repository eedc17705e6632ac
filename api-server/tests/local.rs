//! Local mode as it is: the real runner in real namespaces, over HTTP requests without a socket.
//!
//! Cargo builds no other package's binary for a test, so this one has it built, into the same target folder.
//! `CODEEXEC_RUNNER` names one that is built already. Where the machine lacks what local mode needs, the tests
//! fail with the line that says what. A machine that has no cgroup for programs skips those that are about it.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::Request;
use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::backend::local::{LocalBackend, NoCgroup};
use codeexec_api::limits::Limits;
use codeexec_api::metrics::Metrics;
use codeexec_api::settings::Settings;
use codeexec_api::usage::{Source, Usage};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tower::ServiceExt;

mod common;

#[path = "local/audit.rs"]
mod audit;
#[path = "local/events.rs"]
mod events;
#[path = "local/executions.rs"]
mod executions;

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

async fn built_runner() -> String {
    static RUNNER: OnceCell<PathBuf> = OnceCell::const_new();
    let runner = RUNNER.get_or_init(|| async { tokio::task::spawn_blocking(runner).await.unwrap() });
    runner.await.to_str().unwrap().to_owned()
}

async fn backend(cgroup: &str) -> (LocalBackend, Arc<Limits>) {
    backend_with(&["--cgroup", cgroup, "--rate-limit", "0"]).await
}

async fn backend_with(flags: &[&str]) -> (LocalBackend, Arc<Limits>) {
    let runner = built_runner().await;
    let always = [
        "codeexec-api",
        "--backend",
        "local",
        "--max-concurrent",
        "2",
        "--runner",
        &runner,
    ];
    let settings = Settings::parse_from([&always, flags].concat());
    let limits = Limits::alone(&settings);
    let backend = LocalBackend::start(&settings, limits.clone(), Arc::new(Metrics::new(true))).await;
    (backend.unwrap_or_else(|error| panic!("{error}")), limits)
}

fn serve((backend, limits): (LocalBackend, Arc<Limits>)) -> Router {
    let usage = Usage::new(Source::Ledger(backend.ledger()), 0.0);
    let app = App {
        limits,
        usage: Arc::new(usage),
        metrics: Arc::new(Metrics::new(true)),
        ..common::app(Arc::new(backend), &Settings::parse_from(["codeexec-api"]))
    };
    app.router()
        .layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711))))
}

async fn router() -> Router {
    serve(backend("auto").await)
}

/// Nothing where programs get no cgroup, which it says.
async fn router_with_cgroups() -> Option<Router> {
    let backend = backend("auto").await;
    if let Some(reason) = backend.0.why_no_cgroup() {
        eprintln!("SKIPPED: {reason}");
        return None;
    }
    Some(serve(backend))
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
async fn what_a_program_leaves_comes_back_and_what_does_not_is_flagged() {
    let router = router().await;
    let code = "with open('/code/out/table.csv', 'w') as file: file.write('a;b')";
    let answer = run(&router, code).await;
    let table = json!({"path": "table.csv", "mimeType": "text/csv", "content": "YTti"});
    assert_eq!(
        (&answer["files"], &answer["truncated"]["files"]),
        (&json!([table]), &json!(false))
    );
    let answer = run(&router, "import os\nos.symlink('/etc/passwd', 'out/a')").await;
    assert_eq!(
        (&answer["files"], &answer["truncated"]["files"]),
        (&json!([]), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sees_neither_the_network_nor_the_machine() {
    let router = router().await;
    let code = r#"
import os, socket, time
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

/// Eight children, each of them far below the limit.
const MEMORY_OF_EIGHT: &str = r#"
import os, sys, time
for _ in range(8):
    if os.fork() == 0:
        x = bytearray(b'x') * (100 << 20)
        time.sleep(20)
        os._exit(0)
sys.exit(any(os.wait()[1] for _ in range(8)))
"#;

async fn is_out_of_memory(router: &Router, code: &str) {
    let answer = run(router, code).await;
    assert_eq!(
        (&answer["status"], &answer["reason"]),
        (&json!("error"), &json!("OutOfMemory")),
        "{code}\n{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cgroup_the_runner_ends_a_program_that_takes_too_much_memory() {
    let backend = backend("off").await;
    assert_eq!(backend.0.why_no_cgroup(), Some(&NoCgroup::Off));
    is_out_of_memory(&serve(backend), MEMORY_OF_EIGHT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cgroup_all_memory_counts_whether_or_not_a_process_has_it_mapped() {
    let Some(router) = router_with_cgroups().await else {
        return;
    };
    is_out_of_memory(&router, MEMORY_OF_EIGHT).await;
    // Pages of a shared mapping stay when no process has them in its tables any more.
    let given_back = r#"
import mmap
maps = [mmap.mmap(-1, 100 << 20) for _ in range(10)]
for m in maps:
    for at in range(0, len(m), 10 << 20):
        m[at:at + (10 << 20)] = b'x' * (10 << 20)
        m.madvise(mmap.MADV_DONTNEED)
"#;
    is_out_of_memory(&router, given_back).await;
    // What was sent and not received.
    let sockets = r#"
import os, socket, time
def fill():
    pairs, held = [], 0
    while held < 200 << 20:
        pairs.append(socket.socketpair())
        end = pairs[-1][0]
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        end.setblocking(False)
        try:
            while True: held += end.send(bytes(65536))
        except BlockingIOError: pass
    return pairs
for _ in range(5):
    read, write = os.pipe()
    if os.fork() == 0:
        pairs = fill()
        os.write(write, b'x')
        time.sleep(20)
    os.close(write)
    assert os.read(read, 1)
"#;
    is_out_of_memory(&router, sockets).await;
    // An inode is about a kibibyte of the kernel's.
    let files = r#"
import os
for folder in range(1000):
    os.mkdir(f'/tmp/{folder}')
    for i in range(1000): os.close(os.open(f'/tmp/{folder}/{i}', os.O_CREAT | os.O_WRONLY))
"#;
    is_out_of_memory(&router, files).await;
    // Reading a page of an empty mapping takes no memory of the program's, but for each 2 MiB of it a table. To free
    // those takes so long that the kernel looks for more to end, and finds the runner.
    let page_tables = r#"
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
size = 512 << 30
base = libc.mmap(None, size, 1, 0x4022, -1, 0)  # only to be read, private, without reserve
for at in range(base, base + size, 2 << 20): ctypes.string_at(at, 1)
"#;
    is_out_of_memory(&router, page_tables).await;
    let memory_file = r#"
import os
fd = os.memfd_create('x')
for _ in range(1000): os.write(fd, bytes(1 << 20))
"#;
    is_out_of_memory(&router, memory_file).await;
    assert_eq!(run(&router, "print(1)").await["output"], "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_its_limit_and_can_t_change_its_cgroup() {
    let Some(router) = router_with_cgroups().await else {
        return;
    };
    let code = r#"
import glob, os
def attempt(what):
    try: what()
    except OSError: pass
    else: print('SUCCEEDED')
files = glob.glob('/sys/fs/cgroup/**/*', recursive=True)
limit = [name for name in files if name.endswith(('/memory.max', '/memory.limit_in_bytes'))]
print(open(*limit).read())
for name in filter(os.path.isfile, files):
    # Root's own files can be opened for everything, but for what is not mounted so.
    attempt(lambda: open(name, 'w').close())
    attempt(lambda: os.chmod(name, 0o777))
for folder in {os.path.dirname(name) for name in files}:
    attempt(lambda: os.mkdir(folder + '/x'))
    attempt(lambda: os.rmdir(folder))
"#;
    assert_eq!(run(&router, code).await["output"], "536870912\n\n");
}

/// A server that is a process of its own.
struct Server {
    process: Child,
    log: BufReader<std::process::ChildStdout>,
    address: String,
    held_by: String,
}

impl Server {
    fn start(runner: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_codeexec-api"))
            .args([
                "--backend",
                "local",
                "--listen",
                "127.0.0.1:0",
                "--runner",
                runner,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            log: BufReader::new(process.stdout.take().unwrap()),
            process,
            address: String::new(),
            held_by: String::new(),
        };
        server.held_by = server.line("memory is held by ");
        let listening = server.line("listening address=");
        server.address = listening.split(' ').next().unwrap().to_owned();
        server
    }

    /// What stands behind these words in the log.
    fn line(&mut self, words: &str) -> String {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(words) {
                return rest.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("the log ended without {words:?}")
    }

    /// Sends a program; whoever reads the stream waits for its end.
    fn send(&self, code: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = json!({"code": code, "language": "python"}).to_string();
        let head =
            "POST /api/execute HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        named(
            Path::new("/sys/fs/cgroup"),
            &format!("codeexec-{}-", self.process.id()),
            &mut found,
        );
        found
    }

    /// How many are in one of its cgroups.
    fn processes(&self) -> usize {
        let files = self
            .cgroups()
            .into_iter()
            .map(|folder| folder.join("cgroup.procs"));
        let read = files.filter_map(|file| fs::read_to_string(file).ok());
        read.map(|pids| pids.lines().count()).max().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Folders below whose names begin so.
fn named(folder: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
            named(&entry.path(), prefix, found);
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let bound = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < bound, "not within 20 s: {what}");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cgroup_outlives_its_program_and_none_of_a_killed_server_the_next_start() {
    let runner = built_runner().await;
    tokio::task::spawn_blocking(move || {
        let mut server = Server::start(&runner);
        if !server.held_by.starts_with("a cgroup (v") {
            eprintln!("SKIPPED: memory is held by {}", server.held_by);
            return;
        }
        let mut answer = String::new();
        server.send("print(1)").read_to_string(&mut answer).unwrap();
        assert!(answer.contains(r#""output":"1\n""#), "{answer}");
        wait_until("the cgroup is gone after its program", || {
            server.cgroups().is_empty()
        });

        let sleeper = server.send("import time; time.sleep(30)");
        wait_until("the program runs", || server.processes() >= 3);
        server.process.kill().unwrap();
        wait_until("no process outlives the server", || server.processes() == 0);
        assert!(!server.cgroups().is_empty());
        drop(sleeper);
        // Its number is free for others from here on.
        server.process.wait().unwrap();

        let mut next = Server::start(&runner);
        wait_until("the killed server's cgroups are removed", || {
            server.cgroups().is_empty()
        });
        let mut answer = String::new();
        next.send("print(1)").read_to_string(&mut answer).unwrap();
        let stop = Command::new("kill").arg(next.process.id().to_string()).status();
        assert!(stop.unwrap().success() && next.process.wait().unwrap().success());
        assert_eq!(next.cgroups(), [] as [PathBuf; 0]);
    })
    .await
    .unwrap();
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

/// Processes of sandboxes whose bwrap has ended. They become children of this process, which is asked to be their
/// reaper: bwrap leads a group, the part of it that makes the sandbox is in that, and the runner has replaced it.
fn orphans() -> Vec<String> {
    let own = std::process::id().to_string();
    let stat = |pid: String| -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        let [state, parent, group] = rest.split(' ').take(3).collect::<Vec<_>>().try_into().ok()?;
        let is_orphan = name == "codeexec-runner" || (name == "bwrap" && group != pid);
        (parent == own && state != "Z" && is_orphan).then(|| format!("{name} ({pid})"))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(stat).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_while_its_sandbox_comes_up_leaves_nothing_behind() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    for cgroup in ["off", "auto"] {
        let router = serve(backend(cgroup).await);
        // Once at each step of the way, on this machine or on a slower one.
        for patience in (0..10_000).step_by(250).map(Duration::from_micros) {
            let _ = tokio::time::timeout(patience, run(&router, "import time; time.sleep(20)")).await;
        }
        wait_until("nobody is left behind", || orphans().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_is_in_the_report_on_usage_with_its_cost() {
    let router = router().await;
    let ran = run(&router, "import time; time.sleep(0.2)").await;
    let vcpu_seconds = ran["usage"]["vcpuSeconds"].as_f64().unwrap();
    assert!(vcpu_seconds >= 0.2, "{ran}");
    assert!(
        (ran["usage"]["cost"].as_f64().unwrap() - vcpu_seconds * 0.000_034_17).abs() < 1e-12,
        "{ran}"
    );
    // Ended a moment ago: the period until now is over by then.
    let request = Request::get("/api/usage?to=2100-01-01")
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let report: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(report["total"]["executions"], 1, "{report}");
    assert_eq!(report["total"]["cost"], ran["usage"]["cost"]);
}
