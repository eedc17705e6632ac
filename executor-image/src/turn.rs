//! One interpreter and its one program, as far as the runner holds them.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use codeexec_runner::frames::{Request, Stream};
use rustix::io::Errno;

use crate::child::Child;
use crate::output::Collector;
use crate::processes::AT_ONCE;
use crate::results::Results;
use crate::sys::{self, Usage};

/// What is read from one descriptor before the others get their turn.
const CHUNK: usize = 64 * 1024;
/// No deadline is later, so that none overflows the clock.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 60 * 60);
/// Most that is read from the pipes after the end; they hold far less.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// Longest message of the bootstrap.
const CONTROL_BYTES: usize = 4096;

/// An interpreter, from its start to the end of its program.
#[derive(Debug)]
pub struct Turn {
    /// Its process and pipes.
    pub child: Child,
    /// Where its program's results will be.
    pub results: Results,
    /// What the bootstrap said and nobody has looked at yet.
    pub control: Vec<u8>,
    /// It is ready, and that was said.
    pub said_ready: bool,
    /// There is more to be done that no descriptor tells of.
    pub hurried: bool,
    /// What its processes that have ended used.
    pub usage: Usage,
    /// Its program, once that was taken.
    pub run: Option<Run>,
}

/// One program's run.
#[derive(Debug)]
pub struct Run {
    /// The request's.
    pub uid: String,
    /// The request's.
    pub keep: bool,
    /// What it prints.
    pub collector: Collector,
    /// When its time began.
    pub started: Instant,
    /// When its time is over.
    pub deadline: Instant,
    /// CPU time of the interpreter before its program.
    pub cpu_us_before: u64,
    /// When its memory and processes are counted again.
    pub count_next: Instant,
}

impl Turn {
    /// With an interpreter that was just started.
    pub fn new(child: Child, results: Results) -> Self {
        Self {
            child,
            results,
            control: Vec::new(),
            said_ready: false,
            hurried: false,
            usage: Usage::default(),
            run: None,
        }
    }

    /// Takes what the bootstrap says.
    pub fn read_control(&mut self) {
        let mut buffer = [0; CONTROL_BYTES];
        while let Some(control) = &mut self.child.control {
            match control.read(&mut buffer) {
                Ok(0) => self.child.control = None,
                Ok(read) => {
                    let room = CONTROL_BYTES.saturating_sub(self.control.len());
                    self.control.extend_from_slice(&buffer[..read.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.child.control = None,
            }
        }
    }

    /// Takes the program, whose time does not run yet.
    pub fn take(&mut self, request: &Request) {
        // What preloaded modules printed is not the program's.
        (0..AT_ONCE).any(|_| self.read_output() == 0);
        let now = Instant::now();
        self.run = Some(Run {
            uid: request.uid.clone(),
            keep: request.keep,
            collector: Collector::new(request.limits),
            started: now,
            deadline: now,
            cpu_us_before: sys::cpu_us(self.child.pid) + self.usage.cpu_us,
            count_next: now,
        });
    }

    /// Lets it go.
    pub fn begin(&mut self, request: &Request, handover: Vec<u8>) {
        if let Some(run) = &mut self.run {
            // The clock starts when nothing but the program itself can use its time.
            run.started = Instant::now();
            run.deadline = run.started + Duration::from_millis(request.timeout_ms).min(LONGEST_RUN);
        }
        self.child.request.fill(handover);
        self.child.stdin.fill(request.stdin.clone().into_bytes());
    }

    /// Reads a chunk of each stream; how much there was.
    pub fn read_output(&mut self) -> usize {
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        for (stream, fd) in [
            (Stream::Stdout, &mut self.child.stdout),
            (Stream::Stderr, &mut self.child.stderr),
        ] {
            let read = read_some(fd, &mut buffer);
            total += read;
            if let Some(run) = &mut self.run {
                run.collector.push(stream, &buffer[..read]);
            }
        }
        total
    }

    /// Reads what is left in the pipes when nobody writes any more.
    pub fn drain(&mut self) {
        let mut drained = 0;
        while drained < DRAIN_BYTES {
            match self.read_output() {
                0 => break,
                read => drained += read,
            }
        }
    }
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
