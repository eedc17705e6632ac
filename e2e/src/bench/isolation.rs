//! What the runner's own layers cost: the same runner in turn as it is, and where none of them comes to be.
//!
//! ```text
//!   bench ── bwrap, outer filter ──▶ runner ── capabilities, rlimits, Landlock, seccomp ──▶ python
//!                    │
//!                    └─ without layers: it answers 0 to the calls that put them on, and does nothing
//! ```
//!
//! The runner has no switch for this. The outer filter stands around both kinds, so that what it costs each
//! system call falls on both alike: where the layers are wanted it is the same program but for its verdict.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use codeexec_runner::Transcript;
use codeexec_runner::frames::{Decoder, Ended, FromRunner, Ready, Request, ToRunner, encode};
use rustix::io::{FdFlags, fcntl_setfd};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use tempfile::TempPath;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};

use super::{Report, Rounds};
use crate::cluster::PATIENCE;

/// Fewest samples of each kind: the layers cost about as much as one sample differs from the next.
const SAMPLES_MIN: usize = 40;

/// Samples before the counted ones, which bring the files into the page cache.
const WARM_UP: usize = 3;

/// As far as a user can get to it, unlike an environment in somebody's home.
const PYTHON: &str = "/usr/bin/python3";

/// Who starts bubblewrap when we are root: to whom root's is, limits of processes do not apply.
const USER: u32 = 1000;

const UID: &str = "uid-of-the-execution";

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// Whether the runner's layers come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    On,
    Off,
}

/// Takes at least 40 samples of each kind and puts them into the report. `runner` is the release build.
///
/// # Errors
/// When a program does not end as it should, or the two kinds do not differ as they should.
pub async fn measure_isolation(runner: &Path, samples: usize, report: &mut Report) -> Result<()> {
    let runners = Runners::of(runner)?;
    runners.differ_in_their_layers().await?;
    let mut rounds = Rounds::new(["layers.cold", "layers.warm", "bare.cold", "bare.warm"]);
    for round in 0..WARM_UP + samples.max(SAMPLES_MIN) {
        let mut times = [Duration::ZERO; 4];
        // Neither is always the second, which finds the caches as the first has left them.
        let order = if round % 2 == 0 {
            [Layers::On, Layers::Off]
        } else {
            [Layers::Off, Layers::On]
        };
        for layers in order {
            let at = if layers == Layers::On { 0 } else { 2 };
            times[at] = runners.cold(layers).await?;
            times[at + 1] = runners.warm(layers).await?;
        }
        if round >= WARM_UP {
            rounds.push(times);
        }
    }
    report.add(&rounds);
    report.compare_isolation();
    Ok(())
}

/// Starts runners.
struct Runners {
    /// Where the user of bubblewrap can read it: the build may stand in a home that only its owner enters.
    copy: TempPath,
    on: BpfProgram,
    off: BpfProgram,
}

impl Runners {
    fn of(runner: &Path) -> Result<Self> {
        let copy = tempfile::Builder::new()
            .prefix("codeexec-bench-")
            .tempfile()?
            .into_temp_path();
        fs::copy(runner, &copy)
            .with_context(|| format!("failed to copy {}: `make run` makes it", runner.display()))?;
        Ok(Self {
            copy,
            on: outer_filter(Layers::On)?,
            off: outer_filter(Layers::Off)?,
        })
    }

    /// From spawning bubblewrap, with the request on the runner's standard input already, to the result.
    async fn cold(&self, layers: Layers) -> Result<Duration> {
        let (stdin, mut requests) = io::pipe()?;
        requests.write_all(&request("print(1)"))?;
        let prepared = self.prepare(layers, stdin)?;
        let began = Instant::now();
        let mut runner = prepared.spawn(requests)?;
        runner.result().await?;
        let took = began.elapsed();
        runner.ended().await?;
        Ok(took)
    }

    /// From writing the request to a runner that said `ready`, to the result.
    async fn warm(&self, layers: Layers) -> Result<Duration> {
        let (stdin, requests) = io::pipe()?;
        let mut runner = self.prepare(layers, stdin)?.spawn(requests)?;
        runner.ready().await?;
        let request = request("print(1)");
        let began = Instant::now();
        runner.requests.write_all(&request)?;
        runner.result().await?;
        let took = began.elapsed();
        runner.ended().await?;
        Ok(took)
    }

    fn prepare(&self, layers: Layers, stdin: PipeReader) -> Result<Prepared> {
        let program = if layers == Layers::On { &self.on } else { &self.off };
        let filter = to_pipe(program)?;
        let mut command = Command::new("bwrap");
        if rustix::process::getuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command.args([
            "--unshare-all",
            "--unshare-user",
            "--uid",
            "1000",
            "--gid",
            "1000",
        ]);
        command.args(["--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"]);
        for directory in ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"] {
            command.args(["--ro-bind-try", directory, directory]);
        }
        command.arg("--ro-bind").arg(&self.copy).arg("/runner");
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        for directory in ["/dev/shm", "/tmp", "/code"] {
            command.args(["--size", "67108864", "--tmpfs", directory]);
        }
        command.args(["--seccomp", &filter.as_raw_fd().to_string()]);
        command.args(["--remount-ro", "/", "/runner", "--python", PYTHON]);
        command.stdin(stdin).stdout(Stdio::piped()).kill_on_drop(true);
        Ok(Prepared { command, filter })
    }

    /// Looks from inside at what is in force: otherwise the difference could be that of nothing.
    async fn differ_in_their_layers(&self) -> Result<()> {
        let (on, off) = (self.look(Layers::On).await?, self.look(Layers::Off).await?);
        let here = filters(&fs::read_to_string("/proc/self/status")?)?;
        ensure!(
            off.filters == here + 1,
            "the runner without layers has {} filters, beside {here} and the outer one",
            off.filters
        );
        ensure!(on.filters > off.filters, "the runner with layers has no filter");
        ensure!(off.landlock_abi == 0, "the runner without layers has Landlock");
        ensure!(
            on.limits != off.limits,
            "the runner with layers limits nothing: {}",
            on.limits
        );
        Ok(())
    }

    async fn look(&self, layers: Layers) -> Result<Inside> {
        const LOOK: &str =
            "for name in ('status', 'limits'): print(open(f'/proc/self/{name}').read(), end='\\f')";
        let (stdin, mut requests) = io::pipe()?;
        requests.write_all(&request(LOOK))?;
        let mut runner = self.prepare(layers, stdin)?.spawn(requests)?;
        let ready = runner.ready().await?;
        runner.result().await?;
        let mut files = runner.transcript.stdout().split('\u{c}');
        let (status, limits) = (files.next().unwrap_or(""), files.next().unwrap_or(""));
        Ok(Inside {
            filters: filters(status)?,
            landlock_abi: ready.isolation.landlock_abi,
            limits: limits.to_owned(),
        })
    }
}

/// What a program finds around itself.
struct Inside {
    filters: u32,
    landlock_abi: i32,
    limits: String,
}

/// How many filters are on the process of this /proc/PID/status.
fn filters(status: &str) -> Result<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    let count = line.with_context(|| format!("Linux 5.9 and newer count filters: {status:?}"))?;
    Ok(count.trim().parse()?)
}

/// A frame that asks for this program.
fn request(code: &str) -> Vec<u8> {
    encode(&ToRunner::Request(Box::new(Request {
        uid: UID.to_owned(),
        code: code.to_owned(),
        timeout_ms: 10_000,
        ..Request::default()
    })))
}

/// The filter around the runner. Both kinds of it are of the same length and take the same way for each call.
fn outer_filter(layers: Layers) -> Result<BpfProgram> {
    const RETURN: u16 = 0x06;
    let only = |argument, length, operator, value| -> Result<Vec<SeccompRule>, BackendError> {
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let set_seccomp = u64::from(libc::PR_SET_SECCOMP.cast_unsigned());
    let rules = [
        (libc::SYS_seccomp, Vec::new()),
        (
            libc::SYS_prctl,
            only(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, set_seccomp)?,
        ),
        // The kernel's Landlock is of version 0 then, which is none.
        (libc::SYS_landlock_create_ruleset, Vec::new()),
        (libc::SYS_capset, Vec::new()),
        (libc::SYS_setrlimit, Vec::new()),
        // The pointer to a new limit; without one it only asks.
        (
            libc::SYS_prlimit64,
            only(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?,
        ),
    ];
    let nothing_done = SeccompAction::Errno(0);
    let filter = SeccompFilter::new(rules.into(), SeccompAction::Allow, nothing_done.clone(), ARCH)?;
    let mut program = BpfProgram::try_from(filter)?;
    if layers == Layers::On {
        let nothing_done = u32::from(nothing_done);
        for instruction in &mut program {
            if instruction.code == RETURN && instruction.k == nothing_done {
                instruction.k = SeccompAction::Allow.into();
            }
        }
    }
    Ok(program)
}

/// The read end of a pipe that holds the program, for bubblewrap to inherit. It closes it before the runner.
fn to_pipe(program: &BpfProgram) -> Result<PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    for instruction in program {
        writer.write_all(&instruction.code.to_ne_bytes())?;
        writer.write_all(&[instruction.jt, instruction.jf])?;
        writer.write_all(&instruction.k.to_ne_bytes())?;
    }
    fcntl_setfd(&reader, FdFlags::empty())?;
    Ok(reader)
}

/// A command, and the descriptor that it inherits.
struct Prepared {
    command: Command,
    filter: PipeReader,
}

impl Prepared {
    fn spawn(mut self, requests: PipeWriter) -> Result<Runner> {
        let mut process = self
            .command
            .spawn()
            .context("failed to start bubblewrap (the command bwrap)")?;
        drop(self.filter);
        let stdout = process.stdout.take().context("a pipe")?;
        Ok(Runner {
            process,
            requests,
            stdout,
            decoder: Decoder::default(),
            transcript: Transcript::new(UID),
        })
    }
}

/// A runner that was started.
struct Runner {
    process: Child,
    requests: PipeWriter,
    stdout: ChildStdout,
    decoder: Decoder<FromRunner>,
    transcript: Transcript,
}

impl Runner {
    /// Reads on and returns the frames that came at once.
    async fn frames(&mut self) -> Result<Vec<FromRunner>> {
        let mut buffer = [0; 16 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stdout.read(&mut buffer))
            .await
            .context("the runner says nothing")??;
        ensure!(read > 0, "the runner ended too early");
        let frames = self.decoder.push(&buffer[..read]);
        for frame in &frames {
            self.transcript.push(frame.clone());
        }
        Ok(frames)
    }

    async fn ready(&mut self) -> Result<Ready> {
        loop {
            for frame in self.frames().await? {
                if let FromRunner::Ready(ready) = frame {
                    return Ok(ready);
                }
            }
        }
    }

    /// Reads to the result, which has to be a good one.
    async fn result(&mut self) -> Result<()> {
        while self.transcript.result().is_none() {
            self.frames().await?;
        }
        match self.transcript.result().map(|result| &result.ended) {
            Some(Ended::Exited { code: 0 }) if self.transcript.is_whole() => Ok(()),
            _ => bail!("the program failed: {:?}", self.transcript),
        }
    }

    /// Waits until all of it is gone, so that its end does not slow the next one.
    async fn ended(mut self) -> Result<()> {
        let status = tokio::time::timeout(PATIENCE, self.process.wait())
            .await
            .context("the runner does not end")??;
        ensure!(status.success(), "the runner ended with {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_filters_differ_in_their_verdict_only() -> Result<()> {
        let (on, off) = (outer_filter(Layers::On)?, outer_filter(Layers::Off)?);
        assert_eq!(on.len(), off.len());
        let differing: Vec<_> = on.iter().zip(&off).filter(|(on, off)| on != off).collect();
        assert!(!differing.is_empty());
        for (on, off) in differing {
            assert_eq!((on.code, on.jt, on.jf), (off.code, off.jt, off.jf));
            assert_eq!(on.k, u32::from(SeccompAction::Allow));
            assert_eq!(off.k, u32::from(SeccompAction::Errno(0)));
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_runner_without_layers_really_has_none() -> Result<()> {
        // Beside the folder of this test.
        let test = std::env::current_exe()?;
        let folder = test.ancestors().nth(2).context("target/debug/deps")?;
        let runner = folder.join("codeexec-runner");
        ensure!(
            runner.exists(),
            "this test needs a runner: cargo build -p codeexec-runner"
        );
        Runners::of(&runner)?.differ_in_their_layers().await
    }
}
