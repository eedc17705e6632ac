//! The runner alone, in namespaces made by bubblewrap, as in a Pod.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use codeexec_crds::CodeExecution;
use codeexec_execution::outcome::{End, Facts, status};
use codeexec_execution::{budget, runner_request};
use codeexec_runner::Transcript;
use codeexec_runner::frames::{Decoder, FromRunner, ToRunner, encode};
use codeexec_suite::{Observed, Program, Target};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use super::harness::{Place, Ran, bound, in_time};
use super::processes::{adopt_orphans, left_over};
use super::python::Python;
use crate::unique;

/// The user of executor Pods.
const USER: u32 = 1000;

/// A Pod's memory, which nothing else holds here.
const MEMORY_BYTES: &str = "536870912";

/// Size of each of the folders that a program may write to, in bytes.
const FOLDER_BYTES: &str = "67108864";

/// How long the interpreter may take to come up on a busy machine.
const START: Duration = Duration::from_secs(20);

/// How long the runner may take to end by itself once its result has come.
const END: Duration = Duration::from_secs(5);

/// What a runner may take beyond the time in which its result has to come, before it is given up.
const PATIENCE: Duration = Duration::from_secs(8);

/// How much of the runner's own standard error is shown.
const DIAGNOSTICS: u64 = 4096;

/// The runner, an interpreter, and how they are started.
#[derive(Debug)]
pub struct RunnerAlone {
    program: OsString,
    arguments: Vec<OsString>,
}

impl RunnerAlone {
    /// With this runner and this interpreter.
    ///
    /// # Errors
    /// When there is no such interpreter, or bubblewrap is missing.
    pub async fn new(runner: &Path, python: &Path) -> Result<Self> {
        adopt_orphans()?;
        let runner = runner
            .canonicalize()
            .with_context(|| format!("no runner at {}", runner.display()))?;
        let python = Python::ask(python).await?;
        let mut words = as_an_ordinary_user(&runner, &python);
        words.extend(sandbox(&runner, &python));
        let program = words.remove(0);
        Ok(Self {
            program,
            arguments: words,
        })
    }
}

/// What bubblewrap has to be started by: an ordinary user, whose namespace maps nobody else. To bubblewrap
/// started by root the kernel's root would be the program's user, to whom limits of processes do not apply, and
/// who owns what is not dumpable.
///
/// That user has to get to the runner and the interpreter, which may stand in a home that only root enters.
/// So there is an outer bubblewrap, which makes no namespace but that of mounts. It has only what the inner one
/// needs: of a whole machine's mounts some may go while it looks at them.
fn as_an_ordinary_user(runner: &Path, python: &Python) -> Vec<OsString> {
    let mut words = Vec::new();
    if !rustix::process::getuid().is_root() {
        return words;
    }
    push(&mut words, ["bwrap"]);
    push_system(&mut words);
    push(
        &mut words,
        "--dev-bind /proc /proc --dev-bind /dev /dev --tmpfs /tmp".split(' '),
    );
    for path in python.folders.iter().map(PathBuf::as_path).chain([runner]) {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev().skip(1) {
            push(&mut words, "--perms 0755 --dir".split(' '));
            push(&mut words, [folder]);
        }
        push(&mut words, ["--ro-bind"]);
        push(&mut words, [path, path]);
    }
    let user = USER.to_string();
    push(&mut words, "--chdir / -- setpriv --clear-groups".split(' '));
    push(&mut words, ["--reuid", &user, "--regid", &user]);
    words
}

/// The system's folders, and the parts of /etc without which libraries misbehave.
fn push_system(words: &mut Vec<OsString>) {
    for folder in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        if let Ok(target) = fs::read_link(folder) {
            push(words, ["--symlink"]);
            push(words, [target.as_path(), Path::new(folder)]);
        } else {
            push(words, ["--ro-bind-try", folder, folder]);
        }
    }
    // What bubblewrap makes by itself, only its own user enters.
    push(words, "--perms 0755 --dir /etc".split(' '));
    for file in ["ld.so.cache", "alternatives", "localtime", "fonts", "mime.types"] {
        let path = format!("/etc/{file}");
        push(words, ["--ro-bind-try", &path, &path]);
    }
}

/// bubblewrap with its arguments, and the runner with its own. The network stays the machine's: the runner's
/// filter alone has to take it away.
fn sandbox(runner: &Path, python: &Python) -> Vec<OsString> {
    let mut words = Vec::new();
    let namespaces = "bwrap --unshare-user --unshare-ipc --unshare-pid --unshare-uts --unshare-cgroup-try";
    push(&mut words, namespaces.split(' '));
    push(
        &mut words,
        "--as-pid-1 --die-with-parent --new-session --hostname codeexec --clearenv".split(' '),
    );
    let user = USER.to_string();
    push(&mut words, ["--uid", &user, "--gid", &user]);
    for (name, value) in [
        ("CODEEXEC_NPROC", "200"),
        ("HOME", "/code"),
        ("LANG", "C.UTF-8"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("MPLCONFIGDIR", "/tmp/.matplotlib"),
        ("MPLBACKEND", "Agg"),
        ("OMP_NUM_THREADS", "1"),
        ("OPENBLAS_NUM_THREADS", "1"),
        // As the kubelet has it, for programs to look for.
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
    ] {
        push(&mut words, ["--setenv", name, value]);
    }
    let own = python.executable.parent().unwrap_or(Path::new("/usr/bin"));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", own.display());
    push(&mut words, ["--setenv", "PATH", &path]);
    push_system(&mut words);
    push(&mut words, "--proc /proc --dev /dev".split(' '));
    for folder in ["/dev/shm", "/tmp", "/code"] {
        push(&mut words, ["--size", FOLDER_BYTES, "--tmpfs", folder]);
    }
    // After those: an environment may stand below /tmp.
    for folder in &python.folders {
        push(&mut words, ["--ro-bind"]);
        push(&mut words, [folder, folder]);
    }
    push(&mut words, ["--ro-bind"]);
    push(&mut words, [runner, Path::new("/codeexec-runner")]);
    push(
        &mut words,
        "--remount-ro /dev --remount-ro / --chdir /code --".split(' '),
    );
    push(&mut words, ["/codeexec-runner", "--termination-log", "/dev/null"]);
    push(&mut words, ["--memory-limit-bytes", MEMORY_BYTES, "--python"]);
    push(&mut words, [&python.executable]);
    words
}

fn push(words: &mut Vec<OsString>, more: impl IntoIterator<Item: AsRef<OsStr>>) {
    words.extend(more.into_iter().map(|word| word.as_ref().to_owned()));
}

/// What a runner says.
struct Frames {
    stdout: ChildStdout,
    decoder: Decoder<FromRunner>,
    buffer: Vec<u8>,
    transcript: Transcript,
    is_ready: bool,
    came_late: bool,
}

impl Frames {
    /// Reads until `enough`. Returns whether that came before the end.
    async fn until(&mut self, enough: impl Fn(&Self) -> bool) -> std::io::Result<bool> {
        while !enough(self) {
            let length = self.stdout.read(&mut self.buffer).await?;
            if length == 0 {
                return Ok(false);
            }
            for frame in self.decoder.push(&self.buffer[..length]) {
                let is_ready = matches!(frame, FromRunner::Ready(_));
                self.is_ready |= is_ready;
                self.came_late |= self.transcript.result().is_some() && !is_ready;
                self.transcript.push(frame);
            }
        }
        Ok(true)
    }
}

impl Place for RunnerAlone {
    const TARGET: Target = Target::Runner;

    // What is left running could be of either of two.
    const AT_ONCE: usize = 1;

    async fn run(&self, program: &Program) -> Result<Ran> {
        let uid = unique("hostile");
        let spec = program.spec();
        let limits = budget::output_limits(&CodeExecution::new(&uid, spec.clone()));
        let request = encode(&ToRunner::Request(Box::new(runner_request(&uid, &spec, limits))));
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", self.program.display()))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("a pipe that was asked for is missing");
        };
        let diagnostics = tokio::spawn(diagnostics(stderr));
        let mut frames = Frames {
            stdout,
            decoder: Decoder::default(),
            buffer: vec![0; 64 * 1024],
            transcript: Transcript::new(&uid),
            is_ready: false,
            came_late: false,
        };
        match timeout(START, frames.until(|frames| frames.is_ready)).await {
            Err(_) => bail!("the runner was not ready within {} s", START.as_secs()),
            Ok(Err(error)) => return Err(error).context("failed to read from the runner"),
            Ok(Ok(false)) => bail!("the runner does not start; it said {}", diagnostics.await?),
            Ok(Ok(true)) => {}
        }

        let began = Instant::now();
        let conversation = async {
            // Written beside the reading: the request may be longer than a pipe holds. A runner that died has
            // its say elsewhere.
            let (_, read) = tokio::join!(
                stdin.write_all(&request),
                frames.until(|frames| frames.transcript.result().is_some())
            );
            read
        };
        let reported = timeout(bound(program) + PATIENCE, conversation).await;
        let took = began.elapsed();
        // To its end: nothing may follow the result. Its other end stays open, or the runner would think that
        // its supervisor has gone.
        let ended = timeout(END, async {
            let _ = frames.until(|_| false).await;
            child.wait().await
        });
        let ended = ended.await.ok().and_then(Result::ok);
        drop(stdin);
        let _ = child.kill().await;

        let mut complaints: Vec<String> = in_time("the result came", took, bound(program))
            .into_iter()
            .collect();
        if reported.is_err() {
            complaints.push("the runner gave no result and was killed".to_owned());
        }
        complaints.extend(complaint_about(&frames, ended, &diagnostics.await?));
        let facts = Facts {
            delivered: true,
            ..Facts::default()
        };
        let status = status(&spec, &End::Reported, &frames.transcript, facts, Timestamp::now());
        Ok(Ran {
            observed: Observed::of_status(&status),
            took,
            complaints,
            id: None,
        })
    }

    async fn left_over(&self, _: &Ran) -> Vec<String> {
        left_over(&[]).await
    }
}

fn complaint_about(frames: &Frames, ended: Option<ExitStatus>, said: &str) -> Option<String> {
    if frames.transcript.result().is_some() && !frames.transcript.is_whole() {
        return Some("output is missing or forged, by the result's own digests".to_owned());
    }
    if frames.came_late {
        return Some("there are frames after the result".to_owned());
    }
    match ended {
        None => Some(format!(
            "the runner did not end within {} s after its result; it said {said}",
            END.as_secs()
        )),
        Some(status) if !status.success() => Some(format!("the runner ended with {status}; it said {said}")),
        Some(_) => None,
    }
}

/// What bubblewrap and the runner said of themselves; the program's own output never comes this way.
async fn diagnostics(stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let _ = stderr.take(DIAGNOSTICS).read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    match said.trim() {
        "" => "nothing".to_owned(),
        said => format!("{said:?}"),
    }
}
