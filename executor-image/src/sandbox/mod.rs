//! What stands between the program and everything else, put on in the child between fork and exec.
//!
//! ```text
//!   capabilities ─▶ rlimits ─▶ Landlock ─▶ seccomp ─▶ exec python
//! ```
//!
//! Everything is prepared before the fork, and a layer that the kernel has but does not grant ends the child:
//! it fails closed. Only Landlock may be missing, and then the report says so.

mod capabilities;
mod landlock;
mod rlimits;
mod seccomp;

use std::io;
use std::path::Path;

use rustix::process::Pid;

use crate::settings::Nproc;
use codeexec_runner::frames::IsolationReport;

pub use rlimits::{kernel_bounds_processes, most_processes, own_user_namespace};

/// What the program gives way to the runner by: one tenth of its share of a processor, for each process.
const NICENESS: i32 = 10;

/// A layer that could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Seccomp.
    #[error("failed to build the system-call filter")]
    Seccomp(#[from] seccompiler::Error),
    /// Landlock.
    #[error("failed to build the Landlock ruleset")]
    Landlock(#[from] ::landlock::RulesetError),
}

/// What the sandbox depends on.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The program's work directory.
    pub work_dir: &'a Path,
    /// How many processes its user may have.
    pub nproc: Nproc,
    /// The runner's second thread.
    pub writer: Pid,
    /// The memory that the program shares with nobody, where that is known.
    pub memory_limit: Option<u64>,
    /// Whether memory that no process maps has to be refused, because no cgroup counts it.
    pub refuse_unmapped_memory: bool,
}

/// The layers, ready to be put on.
#[derive(Debug)]
pub struct Sandbox {
    limits: Vec<rlimits::Limit>,
    ruleset: Option<::landlock::RulesetCreated>,
    filters: [seccompiler::BpfProgram; 2],
}

impl Sandbox {
    /// Prepares all layers.
    pub fn prepare(options: Options<'_>) -> Result<Self, SandboxError> {
        Ok(Self {
            limits: rlimits::limits(options.nproc, options.memory_limit),
            ruleset: landlock::ruleset(options.work_dir)?,
            filters: seccomp::filters(options.writer, options.refuse_unmapped_memory)?,
        })
    }

    /// What will be in force around the interpreter.
    pub fn report(&self) -> IsolationReport {
        IsolationReport {
            user_namespace: own_user_namespace(),
            seccomp: true,
            landlock_abi: if self.ruleset.is_some() {
                landlock::abi()
            } else {
                0
            },
            no_new_privileges: rustix::thread::no_new_privs().unwrap_or(false),
        }
    }

    /// Puts them on. There is no way back.
    pub fn enter(&mut self) -> io::Result<()> {
        rustix::process::setsid()?;
        // However many processes the program makes, the runner gets its turn to end them.
        rustix::process::nice(NICENESS)?;
        capabilities::drop_all()?;
        rlimits::apply(&self.limits)?;
        if let Some(ruleset) = self.ruleset.take() {
            landlock::restrict(ruleset)?;
        }
        // Last: it refuses calls that the layers above need.
        for filter in &self.filters {
            seccompiler::apply_filter(filter).map_err(io::Error::other)?;
        }
        Ok(())
    }
}
