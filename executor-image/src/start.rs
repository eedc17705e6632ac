//! Puts the runner together, in the order that its safety depends on.

use std::io;

use codeexec_runner::frames::Ready;

use crate::bounds::Bounds;
use crate::cgroup::{MemoryUse, OomCounter, memory_limit};
use crate::child::{Child, ChildError};
use crate::input::Input;
use crate::intake::Intake;
use crate::last_words::LastWords;
use crate::network::Probe;
use crate::results::Results;
use crate::sandbox::{Options, Sandbox, SandboxError};
use crate::scratch::{Scratch, ScratchError};
use crate::settings::Settings;
use crate::supervisor::{Next, Outcome, Supervisor, SupervisorError};
use crate::sys::{self, SignalQueue};
use crate::turn::Turn;
use crate::writer::Writer;

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The process could not be made safe.
    #[error("failed to protect the runner from its program")]
    Protect(#[from] rustix::io::Errno),
    /// No signals, or no thread.
    #[error("failed to set up the runner's signals and threads")]
    Setup(#[from] io::Error),
    /// The folders to write to.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The interpreter.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The loop.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

impl RunnerError {
    /// Whether the image is to blame, whose interpreter does not come up.
    pub fn is_the_interpreter_s(&self) -> bool {
        matches!(
            self,
            Self::Child(_) | Self::Supervisor(SupervisorError::Interpreter(_))
        )
    }
}

/// Starts the interpreter, and runs to the end of its one program; over and over for as long as the runner is kept.
pub fn run(settings: &Settings, last_words: &LastWords) -> Result<Outcome, RunnerError> {
    rustix::thread::set_no_new_privs(true)?;
    sys::close_on_exec();
    let signals = SignalQueue::new()?;
    let oom = OomCounter::open();
    let bounds = Bounds::left_by_the_kernel(settings, MemoryUse::open());
    let scratch = Scratch::make(&settings.work_dir)?;
    // Before the sandbox, which keeps the program from its thread.
    let writer = Writer::start(io::stdout())?;
    let options = Options {
        work_dir: &settings.work_dir,
        nproc: settings.nproc,
        writer: writer.thread(),
        memory_limit: settings.memory_limit.or_else(memory_limit),
        refuse_unmapped_memory: settings.memory_limit.is_some(),
    };
    let mut supervisor = Supervisor {
        signals,
        writer,
        probe: Probe::begin(settings.probe),
        bounds,
        ready: Ready {
            runner_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Ready::default()
        },
        oom,
        last_words,
        input: Input::default(),
        intake: Intake::default(),
    };
    loop {
        // Anew each time, for its rules are about the folders as they are.
        let sandbox = Sandbox::prepare(options)?;
        let isolation = sandbox.report();
        let results = Results::open(&settings.work_dir);
        let turn = Turn::new(Child::spawn(settings, sandbox)?, results);
        if let Next::Exit(outcome) = supervisor.supervise(turn, isolation)? {
            return Ok(outcome);
        }
        if let Err(error) = scratch.empty() {
            // The program that left it there has its result.
            eprintln!("codeexec-runner: {}", crate::in_full(&error));
            return Ok(Outcome::Done);
        }
    }
}
