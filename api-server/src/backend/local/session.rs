//! One program in one sandbox, from the start of bwrap to the runner's result.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use codeexec_crds::{CodeExecution, CodeExecutionStatus, Timings};
use codeexec_execution::outcome::{self, End, Facts};
use codeexec_execution::{budget, runner_request};
use codeexec_runner::Transcript;
use codeexec_runner::frames::{Decoder, FromRunner, Ready, ToRunner, encode};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::cgroup::{Cgroup, Cgroups};
use super::live::Printed;
use super::processes::kill_sandbox;
use super::records::Record;
use super::sandbox::Sandbox;
use crate::backend::Job;

/// How long a sandbox may live beyond its program's timeout. The runner keeps the timeout; this is for a
/// runner that does not.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of the runner's own standard error goes to the log.
const DIAGNOSTICS: u64 = 4096;

/// CPUs that a program is reckoned to have here.
const VCPUS: f64 = 1.0;

/// A sandbox that was started. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    decoder: Decoder<FromRunner>,
    began: Instant,
    /// After the processes in it: it goes when they have gone.
    cgroup: Option<Cgroup>,
}

/// When what happened.
#[derive(Default)]
struct Moments {
    ready: Option<Instant>,
    started: Option<Instant>,
    started_at: Option<Timestamp>,
    report: Option<Ready>,
}

impl Session {
    /// Starts bwrap and in it the runner, where there are cgroups with one of its own.
    ///
    /// # Errors
    /// When no process can be started, or no cgroup made.
    pub async fn start(sandbox: &Sandbox, cgroups: Option<&Cgroups>) -> io::Result<Self> {
        let began = Instant::now();
        let cgroup = match cgroups {
            Some(cgroups) => Some(cgroups.make().await.map_err(io::Error::other)?),
            None => None,
        };
        let mut command = Command::new(&sandbox.bwrap);
        command
            .args(sandbox.runner(cgroup.as_ref()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that Ctrl-C in a terminal reaches the server only.
            .process_group(0)
            // Somebody has to wait for it when the session was dropped.
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a pipe that was asked for is missing");
        Ok(Self {
            stdin: child.stdin.take().ok_or_else(missing)?,
            stdout: child.stdout.take().ok_or_else(missing)?,
            stderr: child.stderr.take().ok_or_else(missing)?,
            child,
            decoder: Decoder::default(),
            began,
            cgroup,
        })
    }

    /// Waits for the runner's report, without running anything.
    ///
    /// # Errors
    /// What the runner, or bwrap, said instead, or what is wrong with the cgroup.
    pub async fn report(&mut self, patience: Duration) -> Result<Ready, String> {
        let (mut transcript, mut moments) = (Transcript::new(""), Moments::default());
        let entered = enter(self.cgroup.as_ref(), self.child.id()).await;
        entered.map_err(|error| error.to_string())?;
        let ready = self.ready(&mut transcript, &mut moments);
        if timeout(patience, ready).await.is_err() {
            return Err(format!("it was not ready within {} s", patience.as_secs()));
        }
        let Some(report) = moments.report else {
            return Err(diagnostics(&mut self.stderr).await);
        };
        if let Some(cgroup) = &self.cgroup {
            cgroup.check().map_err(|error| error.to_string())?;
        }
        Ok(report)
    }

    async fn ready(&mut self, transcript: &mut Transcript, moments: &mut Moments) -> io::Result<()> {
        read(
            &mut self.stdout,
            &mut self.decoder,
            transcript,
            moments,
            |moments, _| moments.report.is_some(),
            &Printed::default(),
        )
        .await
    }

    /// Runs the one program, unless it is cancelled, and says how it went, and what it cost at `price` a vCPU-second.
    /// `queued` is how long the job waited for its turn.
    pub async fn run(
        &mut self,
        job: &Job,
        queued: Duration,
        price: f64,
        record: &Record,
    ) -> CodeExecutionStatus {
        let limits = budget::output_limits(&CodeExecution::new(&job.id, job.spec.clone()));
        let request = encode(&ToRunner::Request(Box::new(runner_request(
            &job.id, &job.spec, limits,
        ))));
        let mut transcript = Transcript::new(&job.id);
        let mut moments = Moments::default();
        let seconds = u64::try_from(job.spec.timeout_seconds).unwrap_or_default();
        let lives = Duration::from_secs(seconds) + BEYOND_TIMEOUT;
        let conversation = async {
            // The program comes with the request: once all that is to hold it has been put around it, and the
            // runner is up, which the server's death ends. What bwrap forked before that would outlive it.
            enter(self.cgroup.as_ref(), self.child.id()).await?;
            self.ready(&mut transcript, &mut moments).await?;
            // Written beside the reading: the request may be longer than a pipe holds. Its end stays open, or
            // the runner would think that its supervisor has gone.
            let write = async {
                // A runner that died has its say on the other pipe.
                let _ = self.stdin.write_all(&request).await;
            };
            let read = read(
                &mut self.stdout,
                &mut self.decoder,
                &mut transcript,
                &mut moments,
                |_, transcript| transcript.result().is_some(),
                &record.printed,
            );
            tokio::join!(write, read).1
        };
        let ended = tokio::select! {
            ended = timeout(lives, conversation) => Some(ended),
            () = record.cancel.cancelled() => None,
        };
        let end = match ended {
            None => End::Cancelled,
            Some(ended) => {
                self.end_of(job, ended, moments.ready.is_some(), &transcript)
                    .await
            }
        };
        let facts = Facts {
            vcpu_second_price: price,
            ..self.facts(moments, &transcript, queued)
        };
        outcome::status(&job.spec, &end, &transcript, facts, Timestamp::now())
    }

    /// What ended a conversation that nobody cancelled.
    async fn end_of(
        &mut self,
        job: &Job,
        ended: Result<io::Result<()>, tokio::time::error::Elapsed>,
        was_ready: bool,
        transcript: &Transcript,
    ) -> End {
        match ended {
            Ok(Ok(())) if transcript.result().is_some() => End::Reported,
            Ok(_) if self.cgroup.as_ref().is_some_and(Cgroup::was_full) => End::OutOfMemory,
            Ok(read) => {
                let said = diagnostics(&mut self.stderr).await;
                tracing::error!(id = %job.id, error = ?read.err(), %said, "the sandbox ended without a result");
                End::Internal(match was_ready {
                    true => "the runner ended without a result".to_owned(),
                    false => "the sandbox could not be started".to_owned(),
                })
            }
            Err(_) => {
                tracing::error!(id = %job.id, "the sandbox did not keep its timeout and was killed");
                End::PodDeadline
            }
        }
    }

    fn facts(&self, moments: Moments, transcript: &Transcript, queued: Duration) -> Facts {
        let (began, now) = (self.began, Instant::now());
        let ready = moments.ready.unwrap_or(now);
        let started = moments.started.unwrap_or(ready);
        let run_ms = transcript.result().map_or(0, |result| result.run_ms);
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let ran = Duration::from_millis(run_ms);
        Facts {
            warm: Some(false),
            start_time: moments.started_at,
            timings: Timings {
                queue_ms: millis(queued),
                start_ms: millis(ready - began),
                claim_ms: millis(started.saturating_duration_since(ready)),
                run_ms: 0,
                collect_ms: millis(now.saturating_duration_since(started + ran)),
                total_ms: millis(queued + (now - began)),
            },
            network: moments
                .report
                .as_ref()
                .map(|report| report.network)
                .unwrap_or_default(),
            isolation: moments.report.map(|report| report.isolation),
            // The stream is read to its end, so that `started` in the transcript tells all there is.
            delivered: false,
            vcpus: VCPUS,
            ..Facts::default()
        }
    }

    /// Ends everything in the sandbox and waits until it is gone.
    pub async fn end(mut self) {
        self.kill();
        // An error means that somebody has waited for it already.
        let _ = self.child.wait().await;
        if let Some(cgroup) = self.cgroup.take() {
            cgroup.remove().await;
        }
    }

    fn kill(&self) {
        if let Some(bwrap) = self.child.id() {
            kill_sandbox(bwrap);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn enter(cgroup: Option<&Cgroup>, bwrap: Option<u32>) -> io::Result<()> {
    match (cgroup, bwrap) {
        (Some(cgroup), Some(bwrap)) => cgroup.enter(bwrap).await.map_err(io::Error::other),
        // Without a number it has been waited for, and nothing is left to be moved.
        _ => Ok(()),
    }
}

/// Reads frames until `enough`, or the end of the stream.
async fn read(
    stdout: &mut ChildStdout,
    decoder: &mut Decoder<FromRunner>,
    transcript: &mut Transcript,
    moments: &mut Moments,
    enough: impl Fn(&Moments, &Transcript) -> bool,
    printed: &Printed,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stdout.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        for frame in decoder.push(&buffer[..length]) {
            match &frame {
                FromRunner::Ready(report) if moments.report.is_none() => {
                    moments.ready = Some(Instant::now());
                    moments.report = Some(report.clone());
                }
                FromRunner::Started(_) if moments.started.is_none() => {
                    moments.started = Some(Instant::now());
                    moments.started_at = Some(Timestamp::now());
                }
                FromRunner::Output(output) => printed.push(output.clone()),
                _ => {}
            }
            transcript.push(frame);
        }
        if enough(moments, transcript) {
            return Ok(());
        }
    }
}

/// What bwrap and the runner said of themselves; the program's own output never comes this way.
async fn diagnostics(stderr: &mut ChildStderr) -> String {
    let mut said = Vec::new();
    let _ = timeout(
        Duration::from_secs(1),
        stderr.take(DIAGNOSTICS).read_to_end(&mut said),
    )
    .await;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if said.is_empty() {
        "it said nothing".to_owned()
    } else {
        said
    }
}
