//! Runs the real runner, and the machine's Python in it, in the namespaces that bubblewrap gives.
#![allow(dead_code)] // Each test binary uses its own part of this.
#![allow(clippy::expect_used)] // A test that can't do its work has failed.

use std::fs::{self, Permissions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use codeexec_runner::Transcript;
use codeexec_runner::frames::{
    Decoder, Ended, FromRunner, OutputLimits, Ready, Request, ResultFile, RunResult, ToRunner, encode,
};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Longer than any test's program may run.
const PATIENCE: Duration = Duration::from_secs(30);
#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;
const UID: &str = "uid-of-the-execution";

/// How a runner is started.
pub struct Start {
    flags: Vec<String>,
    bwrap: Vec<String>,
    user: u32,
    by_invoker: bool,
    linked: bool,
    python: String,
    stdout: Option<PipeWriter>,
    filter: Option<PipeReader>,
}

impl Default for Start {
    /// As in a Pod.
    fn default() -> Self {
        Self {
            flags: Vec::new(),
            bwrap: Vec::new(),
            user: 1000,
            by_invoker: false,
            linked: false,
            python: "/usr/bin/python3".to_owned(),
            stdout: None,
            filter: None,
        }
    }
}

/// A copy of the runner where any user may read it: the build may stand in a home that only its owner enters.
fn runner() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_codeexec-runner"));
        let modified = fs::metadata(built)
            .and_then(|file| file.modified())
            .expect("it was just built");
        let age = modified
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("a date after 1970");
        // One for each build, so that they don't pile up.
        let copy = std::env::temp_dir().join(format!("codeexec-runner-{}", age.as_nanos()));
        if !copy.exists() {
            let half = copy.with_extension(std::process::id().to_string());
            fs::copy(built, &half).expect("a temporary folder to write to");
            fs::rename(&half, &copy).expect("the same folder");
        }
        copy
    })
}

impl Start {
    /// With a flag of the runner.
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// With more arguments of bubblewrap.
    pub fn bwrap(mut self, arguments: &[&str]) -> Self {
        self.bwrap.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// As root of its user namespace.
    pub fn root(mut self) -> Self {
        self.user = 0;
        self
    }

    /// Started by whoever runs the tests, who may be the machine's root: the kernel then counts no processes.
    pub fn by_invoker(mut self) -> Self {
        self.by_invoker = true;
        self
    }

    /// With the folders to write to as the image has them: links into /dev/shm.
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// With the environment that local mode makes for programs, which has the packages of the image; nothing where
    /// there is none.
    pub fn with_packages(self) -> Option<Self> {
        const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/bin/python3");
        const WHERE: &str =
            "import numpy, os, pandas, matplotlib, sys; print(sys.prefix, sys.base_prefix, sep='\\n')";
        let output = Command::new(PYTHON).args(["-I", "-c", WHERE]).output().ok()?;
        let folders = String::from_utf8(output.stdout).ok()?;
        let folders: Vec<&str> = folders.lines().collect();
        let [prefix, base] = folders[..] else { return None };
        // Its interpreter may stand in a home that only its owner enters.
        let mut start = self
            .by_invoker()
            .bwrap(&["--ro-bind", prefix, prefix, "--ro-bind", base, base]);
        // As the image has it.
        for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
            start = start.bwrap(&["--setenv", name, "1"]);
        }
        start.python = format!("{prefix}/bin/python3");
        Some(start.bwrap(&["--setenv", "MPLCONFIGDIR", "/tmp/.matplotlib"]))
    }

    /// On a kernel without Landlock, as far as the runner can tell.
    pub fn without_landlock(self) -> Self {
        let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
        let missing = SeccompAction::Errno(38);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, ARCH);
        let program = filter.and_then(BpfProgram::try_from).expect("one rule");
        let (reader, mut writer) = io::pipe().expect("a pipe");
        for instruction in program {
            let code = instruction.code.to_ne_bytes();
            let bytes = [
                code.as_slice(),
                &[instruction.jt, instruction.jf],
                &instruction.k.to_ne_bytes(),
            ]
            .concat();
            writer.write_all(&bytes).expect("it fits into a pipe");
        }
        fcntl_setfd(&reader, FdFlags::empty()).expect("open");
        self.bwrap(&["--seccomp", &reader.as_raw_fd().to_string()])
            .keeping(reader)
    }

    fn keeping(mut self, filter: PipeReader) -> Self {
        self.filter = Some(filter);
        self
    }

    /// With its frames going elsewhere.
    pub fn stdout(mut self, stdout: PipeWriter) -> Self {
        self.stdout = Some(stdout);
        self
    }

    /// Starts it.
    pub fn start(self) -> Runner {
        let user = self.user.to_string();
        let mut command = bubblewrap(self.by_invoker);
        command.args(["--unshare-all", "--unshare-user", "--uid", &user, "--gid", &user]);
        command.args(["--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"]);
        command.args([
            "--setenv",
            "KUBERNETES_SERVICE_HOST",
            "10.0.0.1",
            "--setenv",
            "CODEEXEC_NPROC",
            "200",
        ]);
        for directory in ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"] {
            command.args(["--ro-bind-try", directory, directory]);
        }
        command.arg("--ro-bind").arg(runner()).arg("/runner");
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        command.args(["--size", "67108864", "--tmpfs", "/dev/shm"]);
        for (directory, target) in [("/tmp", "dev/shm/tmp"), ("/code", "dev/shm/code")] {
            if self.linked {
                command.args(["--symlink", target, directory]);
            } else {
                command.args(["--size", "67108864", "--tmpfs", directory]);
            }
        }
        command.args(&self.bwrap).args(["--remount-ro", "/"]);
        command
            .args(["/runner", "--python", &self.python])
            .args(&self.flags);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(self.stdout.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need bubblewrap (the command bwrap) and start nothing without it");
        let stdin = child.stdin.take();
        drop(self.filter);
        // bubblewrap's own copy of a pipe that was given stays open here with the command.
        drop(command);
        let mut stdout: Box<dyn Read + Send> = match child.stdout.take() {
            Some(stdout) => Box::new(stdout),
            None => Box::new(io::empty()),
        };
        let mut stderr = child.stderr.take().expect("piped");
        let (frames_tx, frames_rx) = mpsc::channel();
        thread::spawn(move || {
            let mut decoder = Decoder::default();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                for frame in decoder.push(&buffer[..read]) {
                    let _ = frames_tx.send(frame);
                }
            }
        });
        let (stderr_tx, stderr_rx) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = stderr_tx.send(text);
        });
        Runner {
            child,
            stdin,
            frames_rx,
            stderr_rx,
            transcript: Transcript::new(UID),
            ready: None,
        }
    }
}

/// As an ordinary user, whose namespace maps nobody else. To bubblewrap started by root the kernel's root would
/// be the program's user, to whom limits of processes do not apply, and who owns what is not dumpable.
fn bubblewrap(by_invoker: bool) -> Command {
    if by_invoker || !rustix::process::getuid().is_root() {
        return Command::new("bwrap");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=1000", "--regid=1000", "--clear-groups", "bwrap"]);
    command
}

/// A runner that was started.
pub struct Runner {
    child: Child,
    stdin: Option<ChildStdin>,
    frames_rx: Receiver<FromRunner>,
    stderr_rx: Receiver<String>,
    transcript: Transcript,
    ready: Option<Ready>,
}

impl Runner {
    /// Sends bytes that may be no frame.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("still open");
        stdin.write_all(bytes).expect("the runner reads");
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &ToRunner) {
        self.send_bytes(&encode(frame));
    }

    /// Sends a request.
    pub fn request(&mut self, request: &Request) {
        self.send(&ToRunner::Request(Box::new(request.clone())));
    }

    /// Goes away, as an attach stream does.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next frame, or nothing if the runner has ended.
    pub fn next(&mut self) -> Option<FromRunner> {
        match self.frames_rx.recv_timeout(PATIENCE) {
            Ok(frame) => {
                if let FromRunner::Ready(ready) = &frame {
                    self.ready = Some(ready.clone());
                }
                self.transcript.push(frame.clone());
                Some(frame)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("no frame for {PATIENCE:?}; so far {:?}", self.transcript)
            }
        }
    }

    /// Waits until the program has printed this.
    pub fn printed(&mut self, text: &str) {
        while !self.transcript.stdout().contains(text) {
            self.next().expect("the program prints it before it ends");
        }
    }

    /// Waits for the report of a runner that has served so many requests.
    pub fn ready(&mut self, served: u32) -> Ready {
        loop {
            match self.next() {
                Some(FromRunner::Ready(ready)) if ready.served == served => return ready,
                Some(_) => {}
                None => panic!("it ended: {}", self.stderr_rx.recv().expect("its end came")),
            }
        }
    }

    /// From now on listens to this one.
    pub fn transcript_of(&mut self, uid: &str) {
        self.transcript = Transcript::new(uid);
    }

    /// Has a request served by a runner that is kept, and waits for the result.
    pub fn serve(&mut self, request: &Request) -> Ran {
        self.transcript_of(&request.uid);
        self.request(&Request {
            keep: true,
            ..request.clone()
        });
        self.served()
    }

    /// Waits for the result of a request to a runner that is kept.
    pub fn served(&mut self) -> Ran {
        while self.transcript.result().is_none() {
            self.next().expect("it has a result before it ends");
        }
        assert!(self.transcript.is_whole(), "{:?}", self.transcript);
        Ran {
            stdout: self.transcript.stdout().to_owned(),
            stderr: self.transcript.stderr().to_owned(),
            files: self.transcript.files().to_vec(),
            ready: self.ready.clone().expect("ready comes first"),
            result: self.transcript.result().cloned().expect("just seen"),
        }
    }

    /// How many descriptors it has open, where that can be seen.
    pub fn descriptors(&self) -> Option<usize> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).ok()?;
        Some(open.count())
    }

    /// How much memory it holds.
    pub fn resident_kilobytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .expect("a process has memory")
    }

    /// The runner's number outside of its namespace.
    pub fn pid(&self) -> Pid {
        // setpriv, where it was needed, has become bubblewrap.
        let bwrap = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{bwrap}/task/{bwrap}/children")).expect("a Linux with it");
        let runner = children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .and_then(Pid::from_raw);
        runner.expect("bubblewrap has one child")
    }

    /// Sends the runner a signal from outside its PID namespace.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it lives");
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Gone {
        while self.next().is_some() {}
        let exit_code = self.child.wait().expect("a child").code();
        let stderr = self.stderr_rx.recv_timeout(PATIENCE).expect("its end came");
        Gone {
            transcript: std::mem::take(&mut self.transcript),
            ready: self.ready.take(),
            exit_code,
            runner_stderr: stderr,
        }
    }

    /// Waits for its end, which has to be a good one.
    pub fn result(self) -> Ran {
        let gone = self.ended();
        let result = gone.transcript.result().cloned();
        let result =
            result.unwrap_or_else(|| panic!("no result; exit {:?}: {}", gone.exit_code, gone.runner_stderr));
        assert!(
            gone.transcript.is_whole(),
            "frames are missing or forged: {:?}",
            gone.transcript
        );
        let code = match result.ended {
            Ended::Failed { .. } => 70,
            Ended::Terminated => 143,
            _ => 0,
        };
        assert_eq!(gone.exit_code, Some(code), "{}", gone.runner_stderr);
        Ran {
            stdout: gone.transcript.stdout().to_owned(),
            stderr: gone.transcript.stderr().to_owned(),
            files: gone.transcript.files().to_vec(),
            ready: gone.ready.expect("ready comes first"),
            result,
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A runner that has ended.
pub struct Gone {
    pub transcript: Transcript,
    pub ready: Option<Ready>,
    pub exit_code: Option<i32>,
    pub runner_stderr: String,
}

/// A program that was run.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub files: Vec<ResultFile>,
    pub ready: Ready,
    pub result: RunResult,
}

impl Ran {
    /// Asserts that it exited 0, and returns what it printed.
    pub fn printed(self) -> String {
        assert_eq!(
            self.result.ended,
            Ended::Exited { code: 0 },
            "{}{}",
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Path and type of each result file, such as `a.csv text/csv`.
    pub fn left(&self) -> Vec<String> {
        let described = |file: &ResultFile| format!("{} {}", file.path, file.mime_type);
        self.files.iter().map(described).collect()
    }

    /// The content of a result file.
    pub fn content(&self, path: &str) -> Vec<u8> {
        let file = self.files.iter().find(|file| file.path == path);
        let file = file.unwrap_or_else(|| panic!("no {path} in {:?}", self.left()));
        BASE64_STANDARD.decode(&file.content).expect("base64")
    }

    /// Its exit code.
    pub fn code(&self) -> i32 {
        match self.result.ended {
            Ended::Exited { code } => code,
            ref other => panic!("it ended otherwise: {other:?} {}", self.stderr),
        }
    }

    /// The signal that ended it.
    pub fn signal(&self) -> i32 {
        match self.result.ended {
            Ended::Signaled { signal } => signal,
            ref other => panic!("it ended otherwise: {other:?} {}", self.stderr),
        }
    }
}

/// A request with ten seconds of time.
pub fn request(code: &str) -> Request {
    Request {
        uid: UID.to_owned(),
        code: code.to_owned(),
        timeout_ms: 10_000,
        limits: OutputLimits::default(),
        ..Request::default()
    }
}

/// A request with a name of its own.
pub fn request_of(uid: &str, code: &str) -> Request {
    Request {
        uid: uid.to_owned(),
        ..request(code)
    }
}

/// Whether a runner that is kept can be tried at all: where there is no Landlock it is not kept.
pub fn has_landlock() -> bool {
    let has = Start::default().start().ready(0).isolation.landlock_abi > 0;
    if !has {
        eprintln!("SKIPPED: without Landlock no runner is kept");
    }
    has
}

/// Runs a request as in a Pod.
pub fn run_request(request: &Request) -> Ran {
    run_in(Start::default(), request)
}

/// Runs a request.
pub fn run_in(start: Start, request: &Request) -> Ran {
    let mut runner = start.start();
    runner.request(request);
    runner.result()
}

/// Runs a program as in a Pod.
pub fn run(code: &str) -> Ran {
    run_request(&request(code))
}

/// A file for one test, in a place that bubblewrap can bind.
pub fn scratch_file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("codeexec-runner-{name}"));
    // Of an earlier run, by whatever user.
    let _ = fs::remove_file(&path);
    fs::write(&path, "").expect("a temporary folder to write to");
    // As the kubelet makes it.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("its owner may");
    path
}
