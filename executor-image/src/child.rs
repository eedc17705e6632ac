//! The interpreter: how it is started, and what goes to and fro between it and the runner.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use codeexec_runner::frames::Request;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::results;
use crate::sandbox::Sandbox;
use crate::settings::Settings;
use crate::sys;

/// The sandboxed side of the runner.
const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// What it runs when a program imports pyplot, and not before: compiling it would cost every cold start.
const FIGURES: &str = include_str!("figures.py");

/// Variables that the program gets from the container, where that sets them.
const PASSED: [&str; 12] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "MPLBACKEND",
    "MPLCONFIGDIR",
    "PYTHONDONTWRITEBYTECODE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
];

/// What it gets in any case, if only with these values.
const DEFAULTS: [(&str, &str); 3] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("LANG", "C.UTF-8"),
    ("MPLBACKEND", "Agg"),
];

/// The interpreter could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// No pipe.
    #[error("failed to make the interpreter's pipes")]
    Pipes(#[source] io::Error),
    /// No process, or the sandbox refused to close.
    #[error("failed to start interpreter {0} in its sandbox")]
    Spawn(String, #[source] io::Error),
}

/// A request that can't be handed over.
#[derive(Debug, thiserror::Error)]
#[error("content of input file {0:?} is not base64")]
pub struct NotBase64(String);

/// The interpreter and the runner's ends of its pipes, all of which never block.
#[derive(Debug)]
pub struct Child {
    /// Its process.
    pub pid: Pid,
    /// Its standard input.
    pub stdin: Outbox,
    /// Its standard output, until that ends.
    pub stdout: Option<OwnedFd>,
    /// Its standard error, until that ends.
    pub stderr: Option<OwnedFd>,
    /// Between the bootstrap and the runner. The bootstrap closes it before the program starts.
    pub control: Option<UnixStream>,
    /// What the bootstrap still has to get.
    pub request: Outbox,
}

/// Bytes on their way to somebody who may be slow.
#[derive(Debug)]
pub struct Outbox {
    to: Option<OwnedFd>,
    bytes: Vec<u8>,
    sent: usize,
    filled: bool,
}

impl Child {
    /// Starts the interpreter. Only while this process has no other thread than the idle writer.
    pub fn spawn(settings: &Settings, mut sandbox: Sandbox) -> Result<Self, ChildError> {
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC)
                .map_err(io::Error::from)
                .map_err(ChildError::Pipes)
        };
        let (their_stdin, stdin) = pipe()?;
        let (stdout, their_stdout) = pipe()?;
        let (stderr, their_stderr) = pipe()?;
        let (control, their_control) = UnixStream::pair().map_err(ChildError::Pipes)?;
        let request = control.try_clone().map_err(ChildError::Pipes)?;
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), control.as_fd()] {
            never_block(fd).map_err(ChildError::Pipes)?;
        }

        let mut command = Command::new(&settings.python);
        command
            .args([
                "-I",
                "-B",
                "-c",
                BOOTSTRAP,
                &their_control.as_raw_fd().to_string(),
            ])
            .arg(&settings.work_dir)
            .args([results::FOLDER, FIGURES])
            .args(&settings.preload)
            .env_clear()
            .envs(environment(settings))
            .current_dir(&settings.work_dir)
            .stdin(their_stdin)
            .stdout(Stdio::from(their_stdout))
            .stderr(Stdio::from(their_stderr));
        sys::before_exec(&mut command, move || {
            fcntl_setfd(&their_control, FdFlags::empty())?;
            sandbox.enter()
        });
        let failed = |error| ChildError::Spawn(settings.python.display().to_string(), error);
        let child = command.spawn().map_err(failed)?;
        let pid = Pid::from_child(&child);
        prefer_to_be_killed(pid);
        Ok(Self {
            pid,
            stdin: Outbox::to(stdin),
            stdout: Some(stdout),
            stderr: Some(stderr),
            control: Some(control),
            request: Outbox::to(request.into()),
        })
    }
}

/// When memory runs out the program goes first, so that the runner is there to tell. Not the child's own act:
/// it inherits that the runner is not dumpable, and with that loses its /proc files until it has exec'd.
fn prefer_to_be_killed(pid: Pid) {
    // A kernel or a sandboxed one (gVisor) without it picks by size, which is mostly the same.
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000");
}

fn environment(settings: &Settings) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = DEFAULTS
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    variables.push(("HOME".into(), settings.work_dir.clone().into()));
    let passed = PASSED
        .iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    variables.extend(passed);
    variables
}

fn never_block(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

impl Outbox {
    fn to(fd: OwnedFd) -> Self {
        Self {
            to: Some(fd),
            bytes: Vec::new(),
            sent: 0,
            filled: false,
        }
    }

    /// All that will go this way. The end of file comes after it.
    pub fn fill(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.filled = true;
    }

    /// What to wait for until it takes more; nothing when it has all.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.to.as_ref().filter(|_| self.filled).map(AsFd::as_fd)
    }

    /// Sends what it takes now.
    pub fn pump(&mut self) {
        let Some(to) = self.to.as_ref().filter(|_| self.filled) else {
            return;
        };
        while self.sent < self.bytes.len() {
            match rustix::io::write(to, &self.bytes[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                // It does not want the rest, which is its own affair.
                Err(_) => break,
            }
        }
        // The control socket stays open for the other direction, so that its end has to be told. A pipe is no
        // socket, and ends by being closed.
        let _ = shutdown(to, Shutdown::Write);
        self.bytes = Vec::new();
        self.to = None;
    }
}

/// The request as the bootstrap reads it: fields, each with its length before it, and counts before the lists.
/// JSON would cost the interpreter the import of its parser.
pub fn handover(request: &Request) -> Result<Vec<u8>, NotBase64> {
    let mut fields = Fields::default();
    fields.add(request.code.as_bytes());
    fields.count(request.args.len());
    request
        .args
        .iter()
        .for_each(|argument| fields.add(argument.as_bytes()));
    fields.count(request.env.len());
    for (name, value) in &request.env {
        fields.add(name.as_bytes());
        fields.add(value.as_bytes());
    }
    fields.count(request.files.len());
    for file in &request.files {
        fields.add(file.path.as_bytes());
        fields.add(
            &BASE64_STANDARD
                .decode(&file.content)
                .map_err(|_| NotBase64(file.path.clone()))?,
        );
    }
    Ok(fields.0)
}

#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        // A frame, and with it any field, is far below 4 GiB.
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(field);
    }

    fn count(&mut self, count: usize) {
        self.add(count.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codeexec_runner::frames::RequestFile;

    #[test]
    fn fields_carry_their_length_and_lists_their_count() {
        let request = Request {
            code: "é".to_owned(),
            args: vec![String::new()],
            ..Request::default()
        };
        let fields = handover(&request).expect("no files");
        assert_eq!(
            fields,
            b"\x02\0\0\0\xc3\xa9\x01\0\0\x001\0\0\0\0\x01\0\0\x000\x01\0\0\x000"
        );
    }

    #[test]
    fn a_file_that_is_not_base64_is_named() {
        let file = RequestFile {
            path: "a/b".to_owned(),
            content: "%".to_owned(),
        };
        let error = handover(&Request {
            files: vec![file],
            ..Request::default()
        })
        .expect_err("not base64");
        assert_eq!(error.to_string(), "content of input file \"a/b\" is not base64");
    }
}
