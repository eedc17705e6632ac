//! PID 1 of an executor container: starts the interpreter in its sandbox, takes one request, runs it, tells how
//! it went, and exits.

mod child;
mod intake;
mod last_words;
mod memory;
mod output;
mod sandbox;
mod settings;
mod supervisor;
mod sys;
mod writer;

use std::process::ExitCode;

use codeexec_runner::frames::Ready;
use rustix::process::{DumpableBehavior, getpid, set_dumpable_behavior};

use crate::child::Child;
use crate::last_words::LastWords;
use crate::memory::OomCounter;
use crate::sandbox::{Options, Sandbox};
use crate::settings::Settings;
use crate::supervisor::{Outcome, Supervisor, SupervisorError};
use crate::sys::SignalQueue;
use crate::writer::Writer;

/// Started in a way that it can't work.
const EXIT_USAGE: u8 = 64;
/// The runner failed, not the program.
const EXIT_FAILED: u8 = 70;
/// The interpreter did not come up.
const EXIT_INTERPRETER: u8 = 71;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // First of all: from here on no process of the same user can read this one or take its descriptors.
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if getpid().as_raw_nonzero().get() != 1 {
        eprintln!(
            "codeexec-runner: must be PID 1 of a PID namespace of its own, because it kills all others at the end"
        );
        return EXIT_USAGE.into();
    }
    let settings = match Settings::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("codeexec-runner: {error}");
            return EXIT_USAGE.into();
        }
    };
    let last_words = LastWords::open(&settings.termination_log);
    match hidden
        .map_err(Failure::from)
        .and_then(|()| run(settings, &last_words))
    {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => EXIT_FAILED.into(),
        Err(error) => {
            let message = in_full(error.as_ref());
            eprintln!("codeexec-runner: {message}");
            last_words.error(&message);
            let interpreter = error.is::<child::ChildError>()
                || matches!(error.downcast_ref(), Some(SupervisorError::Interpreter(_)));
            if interpreter {
                EXIT_INTERPRETER
            } else {
                EXIT_FAILED
            }
            .into()
        }
    }
}

fn run(settings: Settings, last_words: &LastWords) -> Result<Outcome, Failure> {
    rustix::thread::set_no_new_privs(true)?;
    sys::close_on_exec();
    let signals = SignalQueue::new()?;
    let oom = OomCounter::open();
    let sandbox = Sandbox::prepare(Options {
        work_dir: &settings.work_dir,
        nproc: settings.nproc,
        memory_limit: settings.memory_limit.or_else(memory::cgroup_limit),
        refuse_unmapped_memory: settings.memory_limit.is_some(),
    })?;
    let isolation = sandbox.report();
    let child = Child::spawn(&settings, sandbox)?;
    // The first thread, so only after the fork.
    let writer = Writer::start(std::io::stdout())?;
    let runner_version = env!("CARGO_PKG_VERSION").to_owned();
    let ready = Ready {
        isolation,
        runner_version,
        python_version: String::new(),
    };
    Ok(Supervisor {
        settings,
        signals,
        writer,
        child,
        ready,
        oom,
        last_words,
    }
    .supervise()?)
}

/// An error with its causes, on one line.
fn in_full(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |message, cause| format!("{message}: {cause}"))
}
