//! The runner's one loop: it waits for whatever comes first, and does what that calls for.
//!
//! ```text
//!   fd 0 ──frames──▶ intake ──request──▶ bootstrap ──▶ program
//!   signals, deadline, memory ──▶ end     stdout, stderr ──▶ collector ──▶ writer ──▶ fd 1
//! ```
//!
//! Nothing here blocks but the wait itself: every descriptor that the program holds the other end of is
//! non-blocking, and frames are written by a thread of their own.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use codeexec_runner::frames::{
    Decoder, Ended, FromRunner, Ready, Request, RunResult, Started, Stream, ToRunner,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::bounds::Bounds;
use crate::cgroup::OomCounter;
use crate::child::{self, Child};
use crate::ending::{End, bootstrap_error, describe, ended};
use crate::intake::{Answer, Intake};
use crate::last_words::LastWords;
use crate::network::Probe;
use crate::output::Collector;
use crate::sys::{self, Signal, SignalQueue};
use crate::writer::Writer;

/// What is read from one descriptor before the others get their turn.
const CHUNK: usize = 64 * 1024;
/// How often standard input is looked at again after its end: an attach that went may come back.
const STDIN_RETRY: Duration = Duration::from_millis(250);
/// How often memory and processes are counted where the kernel does not bound them.
const COUNT: Duration = Duration::from_millis(50);
/// How long a count may take. What it has not got to by then is left to the next one.
const LONGEST_COUNT: Duration = Duration::from_millis(100);
/// No deadline is later, so that none overflows the clock.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long `started` may take to be written. Without it in the log the program must not run.
const STARTED_PATIENCE: Duration = Duration::from_secs(5);
/// How long the last frames may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// How long killed processes may take to be gone.
const REAP_PATIENCE: Duration = Duration::from_secs(3);
/// Most that is read from the pipes after the end; they hold far less.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How many signals or ended processes are looked at before everything else gets its turn: a program that makes
/// them faster than they are taken must not hold up its deadline.
const AT_ONCE: usize = 256;
/// Longest message of the bootstrap.
const CONTROL_BYTES: usize = 4096;

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

/// All that is known while it runs.
#[derive(Debug)]
pub struct Supervisor<'a> {
    /// Blocked signals, in the order in which they came.
    pub signals: SignalQueue,
    /// The way out.
    pub writer: Writer,
    /// The interpreter.
    pub child: Child,
    /// What is being found out of the network.
    pub probe: Probe,
    /// What the program may have, where the kernel does not see to it.
    pub bounds: Bounds,
    /// The report, but for Python's version, which the interpreter tells, and the network.
    pub ready: Ready,
    /// The kernel's counter.
    pub oom: OomCounter,
    /// The termination log.
    pub last_words: &'a LastWords,
}

/// One program's run.
#[derive(Debug)]
struct Run {
    uid: String,
    collector: Collector,
    started: Instant,
    deadline: Instant,
    /// CPU time of the interpreter before its program.
    cpu_us_before: u64,
    count_next: Instant,
}

#[derive(Debug, Default)]
struct Loop {
    intake: Intake,
    decoder: Decoder<ToRunner>,
    control: Vec<u8>,
    stdin_ended: Option<Instant>,
    /// The interpreter is ready, and that was said.
    said_ready: bool,
    /// There is more to be done that no descriptor tells of.
    hurried: bool,
    run: Option<Run>,
}

impl Supervisor<'_> {
    /// Runs to the end of the one program.
    pub fn supervise(mut self) -> Result<Outcome, SupervisorError> {
        let mut state = Loop::default();
        loop {
            let stdin_readable = self.wait(&state).map_err(SupervisorError::Poll)?;
            if let Some(end) = self.step(&mut state, stdin_readable) {
                return self.end(state, end);
            }
        }
    }

    /// Sleeps until something can be done; whether standard input is a part of it.
    fn wait(&self, state: &Loop) -> Result<bool, Errno> {
        let now = Instant::now();
        let stdin = rustix::stdio::stdin();
        let retry = state
            .stdin_ended
            .map(|ended| ended + STDIN_RETRY)
            .filter(|retry| *retry > now);
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let readable = [
            self.child.control.as_ref().map(AsFd::as_fd),
            self.child.stdout.as_ref().map(AsFd::as_fd),
            self.child.stderr.as_ref().map(AsFd::as_fd),
        ];
        fds.extend(
            readable
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        let writable = [self.child.stdin.waits_for(), self.child.request.waits_for()];
        fds.extend(
            writable
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)),
        );
        let idle = state.run.is_none();
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
            state.hurried.then_some(now),
            retry,
            self.probe.due().filter(|_| idle),
            state.run.as_ref().map(|run| run.deadline),
            state.run.as_ref().and_then(|run| run.collector.due(now)),
            state
                .run
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

    fn step(&mut self, state: &mut Loop, stdin_readable: bool) -> Option<End> {
        for signal in std::iter::from_fn(|| self.signals.next()).take(AT_ONCE) {
            if signal == Signal::Stop {
                return Some(End::Stopped);
            }
        }
        self.read_control(state);
        if state.run.is_none()
            && let Some(end) = self.become_ready(state)
        {
            return Some(end);
        }
        if stdin_readable && let Some(end) = self.read_stdin(state) {
            return Some(end);
        }
        self.look_at_network(state);
        self.child.request.pump();
        self.child.stdin.pump();
        self.read_output(state);
        let reaped = reap(self.child.pid);
        state.hurried = reaped.more;
        if let Some(status) = reaped.of_child {
            return Some(End::Child(status));
        }

        let run = state.run.as_mut()?;
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

    fn read_control(&mut self, state: &mut Loop) {
        let mut buffer = [0; CONTROL_BYTES];
        while let Some(control) = &mut self.child.control {
            match control.read(&mut buffer) {
                Ok(0) => self.child.control = None,
                Ok(read) => {
                    let room = CONTROL_BYTES.saturating_sub(state.control.len());
                    state.control.extend_from_slice(&buffer[..read.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.child.control = None,
            }
        }
    }

    /// Says `ready` when the bootstrap has, and starts the program whose request came before that.
    fn become_ready(&mut self, state: &mut Loop) -> Option<End> {
        let length = state.control.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = state.control.drain(..=length).collect();
        let version = line.strip_prefix(b"R")?;
        self.ready.python_version = String::from_utf8_lossy(version).trim_end().to_owned();
        self.ready.network = self.probe.look();
        self.say_ready();
        state.said_ready = true;
        let request = state.intake.ready()?;
        self.start(state, &request)
    }

    fn say_ready(&self) {
        self.writer.send(&FromRunner::Ready(self.ready.clone()));
    }

    /// Says `ready` again when all is known that can be: a supervisor may wait for that. Not while a program runs,
    /// whose time is not spent on it.
    fn look_at_network(&mut self, state: &Loop) {
        if state.run.is_some() || !self.ready.network.is_pending() {
            return;
        }
        self.ready.network = self.probe.look();
        if state.said_ready && !self.ready.network.is_pending() {
            self.say_ready();
        }
    }

    fn read_stdin(&mut self, state: &mut Loop) -> Option<End> {
        let mut buffer = vec![0; CHUNK];
        let read = rustix::io::read(rustix::stdio::stdin(), &mut buffer).unwrap_or(0);
        state.stdin_ended = (read == 0).then(Instant::now);
        for frame in state.decoder.push(&buffer[..read]) {
            match state.intake.frame(frame) {
                Answer::Silence => {}
                Answer::Ready => self.say_ready(),
                Answer::Started(uid) => self.writer.send(&FromRunner::Started(Started { uid })),
                Answer::Run(request) => {
                    if let Some(end) = self.start(state, &request) {
                        return Some(end);
                    }
                }
            }
        }
        None
    }

    fn start(&mut self, state: &mut Loop, request: &Request) -> Option<End> {
        // What preloaded modules printed is not the program's.
        (0..AT_ONCE).any(|_| self.read_output(state) == 0);
        let handover = child::handover(request);
        let mut run = Run::new(request, self.child.pid);
        let failed = match handover {
            Err(error) => Some(error.to_string()),
            Ok(handover) => {
                self.writer.send(&FromRunner::Started(Started {
                    uid: request.uid.clone(),
                }));
                if self.writer.flush(STARTED_PATIENCE) {
                    run.begin(request);
                    self.child.request.fill(handover);
                    self.child.stdin.fill(request.stdin.clone().into_bytes());
                    None
                } else {
                    Some("nobody takes the runner's frames".to_owned())
                }
            }
        };
        state.run = Some(run);
        failed.map(End::Failed)
    }

    /// Reads a chunk of each stream; whether there was any.
    fn read_output(&mut self, state: &mut Loop) -> usize {
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        for (stream, fd) in [
            (Stream::Stdout, &mut self.child.stdout),
            (Stream::Stderr, &mut self.child.stderr),
        ] {
            let read = read_some(fd, &mut buffer);
            total += read;
            if let Some(run) = &mut state.run {
                run.collector.push(stream, &buffer[..read]);
            }
        }
        total
    }

    /// Makes sure that nothing of the program is left, and tells how it went.
    fn end(mut self, mut state: Loop, end: End) -> Result<Outcome, SupervisorError> {
        let ended_at = Instant::now();
        self.kill_and_reap();
        self.read_control(&mut state);
        if state.run.is_none() {
            return self.end_without_program(&state, end);
        }
        let mut drained = 0;
        while drained < DRAIN_BYTES {
            match self.read_output(&mut state) {
                0 => break,
                read => drained += read,
            }
        }
        let Some(run) = state.run else {
            return Ok(Outcome::Done);
        };

        let usage = sys::children_usage();
        let memory_full = matches!(end, End::MemoryFull);
        let ended = ended(end, bootstrap_error(&state.control));
        let outcome = match ended {
            Ended::Failed { .. } => Outcome::Failed,
            Ended::Terminated => Outcome::Stopped,
            Ended::Exited { .. }
            | Ended::Signaled { .. }
            | Ended::TooManyProcesses { .. }
            | Ended::DeadlineExceeded => Outcome::Done,
        };
        let (frames, stdout, stderr) = run.collector.finish();
        for output in frames {
            self.writer.send(&FromRunner::Output(output));
        }
        let result = RunResult {
            uid: run.uid,
            ended,
            oom_killed: memory_full || self.oom.rose(),
            stdout,
            stderr,
            run_ms: millis(ended_at - run.started),
            cpu_ms: usage.cpu_us.saturating_sub(run.cpu_us_before) / 1000,
            peak_memory_bytes: usage.peak_bytes,
            network: self.probe.look(),
        };
        // Before the frame: of the two, this can't be held up by a reader.
        self.last_words.result(&result);
        self.writer.send(&FromRunner::Result(Box::new(result)));
        self.writer.flush(FLUSH_PATIENCE);
        Ok(outcome)
    }

    fn end_without_program(&self, state: &Loop, end: End) -> Result<Outcome, SupervisorError> {
        self.writer.flush(FLUSH_PATIENCE);
        match (end, bootstrap_error(&state.control)) {
            (End::Stopped, _) => Ok(Outcome::Stopped),
            (_, Some(message)) => Err(SupervisorError::Interpreter(message)),
            (End::Child(status), None) => Err(SupervisorError::Interpreter(describe(status))),
            (End::Deadline | End::MemoryFull | End::TooManyProcesses(_) | End::Failed(_), None) => {
                Ok(Outcome::Failed)
            }
        }
    }

    /// Kills until there is nobody left: a process that was just being forked may have missed the first one.
    fn kill_and_reap(&self) {
        let patience = Instant::now() + REAP_PATIENCE;
        loop {
            sys::kill_everyone();
            while self.signals.next().is_some() {}
            if reap(self.child.pid).nobody_left || Instant::now() > patience {
                return;
            }
            let mut fds = [PollFd::new(&self.signals, PollFlags::IN)];
            let short = Timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            // Whatever woke it, the loop looks again.
            let _ = poll(&mut fds, Some(&short));
        }
    }
}

impl Run {
    fn new(request: &Request, pid: Pid) -> Self {
        let now = Instant::now();
        Self {
            uid: request.uid.clone(),
            collector: Collector::new(request.limits),
            started: now,
            deadline: now,
            cpu_us_before: sys::cpu_us(pid),
            count_next: now,
        }
    }

    /// The clock starts when nothing but the program itself can use its time.
    fn begin(&mut self, request: &Request) {
        self.started = Instant::now();
        self.deadline = self.started + Duration::from_millis(request.timeout_ms).min(LONGEST_RUN);
    }
}

#[derive(Debug, Default)]
struct Reaped {
    of_child: Option<WaitStatus>,
    nobody_left: bool,
    more: bool,
}

/// Takes every process that has ended; as PID 1 the runner is the parent of all orphans.
fn reap(child: Pid) -> Reaped {
    let mut reaped = Reaped::default();
    for _ in 0..AT_ONCE {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => reaped.of_child = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return reaped,
            Err(_) => {
                reaped.nobody_left = true;
                return reaped;
            }
        }
    }
    reaped.more = true;
    reaped
}

/// How many bytes came. Lets go of a stream that has ended.
fn read_some(fd: &mut Option<OwnedFd>, buffer: &mut [u8]) -> usize {
    let Some(open) = fd else { return 0 };
    match rustix::io::read(&*open, buffer) {
        Ok(0) => {
            *fd = None;
            0
        }
        Ok(read) => read,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(_) => {
            *fd = None;
            0
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
