//! Runs programs on this machine: the same runner, in namespaces made by bubblewrap.
//!
//! ```text
//!   request ── queue ──▶ bwrap ──▶ runner (PID 1) ──▶ sandboxed python
//!      ▲                  stdin: request    stdout: frames    │
//!      └───────────────── outcome ◀── transcript ◀────────────┘
//! ```

mod checks;
mod python;
mod queue;
mod sandbox;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_crds::CodeExecutionStatus;
use futures::FutureExt;
use futures::future::BoxFuture;

use self::checks::Missing;
use self::queue::Queue;
use self::sandbox::Sandbox;
use self::session::Session;
use super::{Backend, BackendError, Job};
use crate::settings::Settings;

/// How long the first sandbox may take to come up.
const FIRST_START: Duration = Duration::from_secs(30);

/// Why programs can't be run on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Something is missing; one line for each.
    #[error("{}", lines(.0))]
    Missing(Vec<Missing>),
    /// All is there, but the runner does not come up.
    #[error("the runner does not start in the sandbox: {0}")]
    Runner(String),
}

fn lines(missing: &[Missing]) -> String {
    missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Runs programs on this machine.
#[derive(Debug)]
pub struct LocalBackend {
    sandbox: Arc<Sandbox>,
    queue: Queue,
}

impl LocalBackend {
    /// Checks what this machine has, and starts the runner once to see that it works.
    ///
    /// # Errors
    /// [`LocalError`].
    pub async fn start(settings: &Settings) -> Result<Self, LocalError> {
        let checks::Found {
            sandbox,
            python,
            missing_packages,
        } = checks::check(settings).await.map_err(LocalError::Missing)?;
        let first = Session::start(&sandbox).map_err(|error| LocalError::Runner(error.to_string()))?;
        let report = first.report(FIRST_START).await.map_err(LocalError::Runner)?;
        if !missing_packages.is_empty() {
            let packages = missing_packages.join(", ");
            tracing::warn!(
                "programs can't import {packages}: install them for {}",
                python.executable.display()
            );
        }
        let isolation = report.isolation;
        tracing::info!(
            python = python.version_text(),
            at_once = settings.max_concurrent(),
            seccomp = isolation.seccomp,
            landlock_abi = isolation.landlock_abi,
            user_namespace = isolation.user_namespace,
            "programs run on this machine, each in a sandbox of its own",
        );
        tracing::info!(
            memory_limit_bytes = settings.memory_limit_bytes,
            "memory is held by the runner, which adds up what a program's processes use and ends them at the limit",
        );
        Ok(Self {
            sandbox: Arc::new(sandbox),
            queue: Queue::new(settings.max_concurrent(), settings.queue_timeout()),
        })
    }

    async fn run(&self, job: Job) -> Result<CodeExecutionStatus, BackendError> {
        let came = Instant::now();
        let turn = self.queue.turn().await?;
        let queued = came.elapsed();
        let mut session = Session::start(&self.sandbox).map_err(|error| {
            tracing::error!(id = %job.id, %error, "failed to start bwrap");
            BackendError::Unavailable
        })?;
        let status = session.run(&job, queued).await;
        // The answer need not wait until the last process is gone, but the next program does.
        tokio::spawn(async move {
            session.end().await;
            drop(turn);
        });
        Ok(status)
    }
}

impl Backend for LocalBackend {
    fn execute(&self, job: Job) -> BoxFuture<'_, Result<CodeExecutionStatus, BackendError>> {
        self.run(job).boxed()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
