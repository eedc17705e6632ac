//! The runner's one loop, for each interpreter anew: it waits for whatever comes first, and does what that calls for.
//!
//! ```text
//!   fd 0 ──frames──▶ intake ──request──▶ bootstrap ──▶ program
//!   signals, deadline, memory ──▶ end     stdout, stderr ──▶ collector ──▶ writer ──▶ fd 1
//!                                  └────▶ results folder, when nobody is left ──┘
//! ```
//!
//! Nothing here blocks but the wait itself: every descriptor that the program holds the other end of is
//! non-blocking, and frames are written by a thread of their own.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use codeexec_runner::frames::{Ended, FromRunner, IsolationReport, Ready, Request, RunResult, Started};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::bounds::Bounds;
use crate::cgroup::OomCounter;
use crate::child;
use crate::ending::{End, bootstrap_error, describe, ended};
use crate::input::Input;
use crate::intake::{Answer, Intake};
use crate::last_words::LastWords;
use crate::network::Probe;
use crate::output::Finished;
use crate::processes::{AT_ONCE, kill_all, reap};
use crate::results::Taken;
use crate::sys::{Signal, SignalQueue};
use crate::turn::Turn;
use crate::writer::Writer;

/// How often memory and processes are counted where the kernel does not bound them.
const COUNT: Duration = Duration::from_millis(50);
/// How long a count may take. What it has not got to by then is left to the next one.
const LONGEST_COUNT: Duration = Duration::from_millis(100);
/// How long `started` may take to be written. Without it in the log the program must not run.
const STARTED_PATIENCE: Duration = Duration::from_secs(5);
/// How long the last frames may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The container has nothing more to do, and no result to tell of it.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The interpreter ended before there was a program.
    #[error("interpreter ended before it took a request: {0}")]
    Interpreter(String),
    /// The wait failed.
    #[error("failed to wait for the program")]
    Poll(#[source] Errno),
}

/// How a container ends that has ended properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Done,
    /// Told to stop, with the result so far if there is one.
    Stopped,
    /// With a result that says the program could not be run.
    Failed,
}

/// What comes after a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one, once nothing is left of this one but what it wrote.
    Serve,
    /// The end.
    Exit(Outcome),
}

/// All that outlives a program.
#[derive(Debug)]
pub struct Supervisor<'a> {
    /// Blocked signals, in the order in which they came.
    pub signals: SignalQueue,
    /// The way out.
    pub writer: Writer,
    /// What is being found out of the network.
    pub probe: Probe,
    /// What a program may have, where the kernel does not see to it.
    pub bounds: Bounds,
    /// The last report.
    pub ready: Ready,
    /// The kernel's counter.
    pub oom: OomCounter,
    /// The termination log.
    pub last_words: &'a LastWords,
    /// The way in.
    pub input: Input,
    /// Which requests came.
    pub intake: Intake,
}

impl Supervisor<'_> {
    /// Runs to the end of the one program of an interpreter that was started in this isolation.
    pub fn supervise(&mut self, mut turn: Turn, isolation: IsolationReport) -> Result<Next, SupervisorError> {
        self.ready.isolation = isolation;
        self.ready.served = self.intake.served();
        loop {
            let stdin_readable = self.wait(&turn).map_err(SupervisorError::Poll)?;
            if let Some(end) = self.step(&mut turn, stdin_readable) {
                return self.end(turn, end);
            }
        }
    }

    /// Sleeps until something can be done; whether standard input is a part of it.
    fn wait(&self, turn: &Turn) -> Result<bool, Errno> {
        let now = Instant::now();
        let stdin = rustix::stdio::stdin();
        let retry = self.input.retry(now);
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let readable = [
            turn.child.control.as_ref().map(AsFd::as_fd),
            turn.child.stdout.as_ref().map(AsFd::as_fd),
            turn.child.stderr.as_ref().map(AsFd::as_fd),
        ];
        fds.extend(
            readable
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        let writable = [turn.child.stdin.waits_for(), turn.child.request.waits_for()];
        fds.extend(
            writable
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)),
        );
        let idle = turn.run.is_none();
        if idle {
            fds.extend(
                self.probe
                    .waits_for()
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)),
            );
        }
        let watched = fds.len();
        if retry.is_none() {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }

        let wake = [
            turn.hurried.then_some(now),
            retry,
            self.probe.due().filter(|_| idle),
            turn.run.as_ref().map(|run| run.deadline),
            turn.run.as_ref().and_then(|run| run.collector.due(now)),
            turn.run
                .as_ref()
                .filter(|_| self.bounds.any())
                .map(|run| run.count_next),
        ];
        let timeout = wake
            .into_iter()
            .flatten()
            .min()
            .map(|wake| wake.saturating_duration_since(now));
        // A wait that is too long for the type is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.get(watched).is_some_and(|stdin| !stdin.revents().is_empty())),
            Err(error) => Err(error),
        }
    }

    fn step(&mut self, turn: &mut Turn, stdin_readable: bool) -> Option<End> {
        for signal in std::iter::from_fn(|| self.signals.next()).take(AT_ONCE) {
            if signal == Signal::Stop {
                return Some(End::Stopped);
            }
        }
        turn.read_control();
        if turn.run.is_none()
            && let Some(end) = self.become_ready(turn)
        {
            return Some(end);
        }
        if stdin_readable && let Some(end) = self.read_stdin(turn) {
            return Some(end);
        }
        self.look_at_network(turn);
        turn.child.request.pump();
        turn.child.stdin.pump();
        turn.read_output();
        let reaped = reap(turn.child.pid);
        turn.usage = turn.usage.and(reaped.usage);
        turn.hurried = reaped.more;
        if let Some(status) = reaped.of_child {
            return Some(End::Child(status));
        }

        let run = turn.run.as_mut()?;
        let now = Instant::now();
        for output in run.collector.take(now) {
            self.writer.send(&FromRunner::Output(output));
        }
        if now >= run.deadline {
            return Some(End::Deadline);
        }
        if self.bounds.any() && now >= run.count_next {
            let broken = self.bounds.broken(run.deadline.min(now + LONGEST_COUNT));
            // A count that takes long is not to be all that the runner does.
            run.count_next = Instant::now() + COUNT.max(now.elapsed() * 4);
            return broken;
        }
        None
    }

    /// Says `ready` when the bootstrap has, and starts the program whose request came before that.
    fn become_ready(&mut self, turn: &mut Turn) -> Option<End> {
        let length = turn.control.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = turn.control.drain(..=length).collect();
        let version = line.strip_prefix(b"R")?;
        self.ready.python_version = String::from_utf8_lossy(version).trim_end().to_owned();
        self.ready.network = self.probe.look();
        self.say_ready();
        turn.said_ready = true;
        let request = self.intake.ready()?;
        self.start(turn, &request)
    }

    fn say_ready(&self) {
        self.writer.send(&FromRunner::Ready(self.ready.clone()));
    }

    /// Says `ready` again when all is known that can be: a supervisor may wait for that. Not while a program runs,
    /// whose time is not spent on it.
    fn look_at_network(&mut self, turn: &Turn) {
        if turn.run.is_some() || !self.ready.network.is_pending() {
            return;
        }
        self.ready.network = self.probe.look();
        if turn.said_ready && !self.ready.network.is_pending() {
            self.say_ready();
        }
    }

    fn read_stdin(&mut self, turn: &mut Turn) -> Option<End> {
        for frame in self.input.read() {
            match self.intake.frame(frame) {
                Answer::Silence => {}
                Answer::Ready => self.say_ready(),
                Answer::Started(uid) => self.writer.send(&FromRunner::Started(Started { uid })),
                Answer::Run(request) => {
                    if let Some(end) = self.start(turn, &request) {
                        return Some(end);
                    }
                }
            }
        }
        None
    }

    fn start(&mut self, turn: &mut Turn, request: &Request) -> Option<End> {
        self.last_words.clear();
        turn.take(request);
        let handover = match child::handover(request) {
            Ok(handover) => handover,
            Err(error) => return Some(End::Failed(error.to_string())),
        };
        self.writer.send(&FromRunner::Started(Started {
            uid: request.uid.clone(),
        }));
        if !self.writer.flush(STARTED_PATIENCE) {
            return Some(End::Failed("nobody takes the runner's frames".to_owned()));
        }
        turn.begin(request, handover);
        None
    }

    /// Makes sure that no process of the program is left, and tells how it went.
    fn end(&mut self, mut turn: Turn, end: End) -> Result<Next, SupervisorError> {
        let ended_at = Instant::now();
        let killed = kill_all(turn.child.pid, &self.signals);
        let usage = turn.usage.and(killed.usage);
        turn.read_control();
        turn.drain();
        let bootstrap_error = bootstrap_error(&turn.control);
        let Some(run) = turn.run else {
            return self.end_without_program(end, bootstrap_error).map(Next::Exit);
        };

        let memory_full = matches!(end, End::MemoryFull);
        let ended = ended(end, bootstrap_error);
        let outcome = match ended {
            Ended::Failed { .. } => Outcome::Failed,
            Ended::Terminated => Outcome::Stopped,
            Ended::Exited { .. }
            | Ended::Signaled { .. }
            | Ended::TooManyProcesses { .. }
            | Ended::DeadlineExceeded => Outcome::Done,
        };
        let Finished {
            frames,
            stdout,
            stderr,
            next_seq,
            encoded_bytes_left,
        } = run.collector.finish();
        for output in frames {
            self.writer.send(&FromRunner::Output(output));
        }
        let taken = match outcome {
            // No program ran: what is there are its input files at most.
            Outcome::Failed => Taken::default(),
            Outcome::Done | Outcome::Stopped if killed.nobody_left => {
                turn.results.take(encoded_bytes_left, next_seq)
            }
            // Whoever is left could change what is read.
            Outcome::Done | Outcome::Stopped => Taken {
                files: Vec::new(),
                dropped: true,
            },
        };
        let files = taken.totals();
        for file in taken.files {
            self.writer.send(&FromRunner::File(file));
        }
        let result = RunResult {
            uid: run.uid,
            ended,
            oom_killed: memory_full || self.oom.rose(),
            stdout,
            stderr,
            files,
            run_ms: millis(ended_at - run.started),
            cpu_ms: usage.cpu_us.saturating_sub(run.cpu_us_before) / 1000,
            peak_memory_bytes: usage.peak_bytes,
            network: self.probe.look(),
        };
        // Before the frame: of the two, this can't be held up by a reader.
        self.last_words.result(&result);
        self.writer.send(&FromRunner::Result(Box::new(result)));
        let was_told = self.writer.flush(FLUSH_PATIENCE);
        let may_go_on = self.intake.ended();
        // Without Landlock a program may have written where nobody looks.
        let is_confined = self.ready.isolation.landlock_abi > 0;
        Ok(match outcome {
            Outcome::Done if run.keep && killed.told_to_stop => Next::Exit(Outcome::Stopped),
            Outcome::Done if run.keep && was_told && may_go_on && is_confined && killed.nobody_left => {
                self.oom.begin();
                Next::Serve
            }
            outcome => Next::Exit(outcome),
        })
    }

    fn end_without_program(
        &self,
        end: End,
        bootstrap_error: Option<String>,
    ) -> Result<Outcome, SupervisorError> {
        self.writer.flush(FLUSH_PATIENCE);
        match (end, bootstrap_error) {
            (End::Stopped, _) => Ok(Outcome::Stopped),
            (_, Some(message)) => Err(SupervisorError::Interpreter(message)),
            (End::Child(status), None) => Err(SupervisorError::Interpreter(describe(status))),
            (End::Deadline | End::MemoryFull | End::TooManyProcesses(_) | End::Failed(_), None) => {
                Ok(Outcome::Failed)
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
