//! PID 1 of an executor container: starts the interpreter in its sandbox, takes one request, runs it, tells how
//! it went, and exits, unless it was told to do all that once more.

mod bounds;
mod cgroup;
mod child;
mod ending;
mod input;
mod intake;
mod last_words;
mod media;
mod memory;
mod network;
mod output;
mod processes;
mod results;
mod sandbox;
mod scratch;
mod settings;
mod start;
mod supervisor;
mod sys;
mod turn;
mod writer;

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, getpid, set_dumpable_behavior};

use codeexec_runner::exit;

use crate::last_words::LastWords;
use crate::settings::Settings;
use crate::start::{RunnerError, run};
use crate::supervisor::Outcome;

fn main() -> ExitCode {
    // First of all: from here on no process of the same user can read this one or take its descriptors.
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if getpid().as_raw_nonzero().get() != 1 {
        eprintln!(
            "codeexec-runner: must be PID 1 of a PID namespace of its own, because it kills all others at the end"
        );
        return exit::USAGE.into();
    }
    let settings = match Settings::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("codeexec-runner: {error}");
            return exit::USAGE.into();
        }
    };
    let last_words = LastWords::open(&settings.termination_log);
    let outcome = hidden
        .map_err(RunnerError::from)
        .and_then(|()| run(&settings, &last_words));
    match outcome {
        Ok(Outcome::Done) => {
            std::thread::sleep(settings.linger);
            exit::DONE.into()
        }
        Ok(Outcome::Stopped) => exit::STOPPED.into(),
        Ok(Outcome::Failed) => exit::FAILED.into(),
        Err(error) => {
            let message = in_full(&error);
            eprintln!("codeexec-runner: {message}");
            last_words.error(&message);
            if error.is_the_interpreter_s() {
                exit::INTERPRETER
            } else {
                exit::FAILED
            }
            .into()
        }
    }
}

/// An error with its causes, on one line.
fn in_full(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |message, cause| format!("{message}: {cause}"))
}
