//! Runs programs on this machine: the same runner, in namespaces made by bubblewrap.
//!
//! ```text
//!   request ── queue ──▶ bwrap ──▶ runner (PID 1) ──▶ sandboxed python
//!      ▲                  stdin: request    stdout: frames    │
//!      └───────────────── outcome ◀── transcript ◀────────────┘
//! ```

mod cgroup;
mod checks;
mod processes;
mod python;
mod queue;
mod sandbox;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_crds::CodeExecutionStatus;
use codeexec_runner::frames::Ready;
use futures::FutureExt;
use futures::future::BoxFuture;

use self::cgroup::Cgroups;
pub use self::cgroup::NoCgroup;
use self::checks::Missing;
use self::queue::Queue;
use self::sandbox::Sandbox;
use self::session::Session;
use super::{Backend, BackendError, Job};
use crate::metrics::Metrics;
use crate::settings::{CgroupUse, Settings};
use crate::usage::Ledger;

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
    /// What holds the programs' memory, or why the runner does.
    cgroups: Result<Cgroups, NoCgroup>,
    queue: Queue,
    vcpu_second_price: f64,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
}

impl LocalBackend {
    /// Checks what this machine has, and starts the runner once to see that it works.
    ///
    /// # Errors
    /// [`LocalError`].
    pub async fn start(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, LocalError> {
        let checks::Found {
            sandbox,
            python,
            missing_packages,
        } = checks::check(settings).await.map_err(LocalError::Missing)?;
        let (cgroups, report) = match in_cgroup(settings, &sandbox).await {
            Ok((cgroups, report)) => (Ok(cgroups), report),
            // Once more: what does not start without one either is told as what it is.
            Err(reason) => {
                let report = first_start(&sandbox, None).await;
                (Err(reason), report.map_err(LocalError::Runner)?)
            }
        };
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
        let held_by = match &cgroups {
            Ok(cgroups) => format!("a cgroup ({}) of each program's own", cgroups.version()),
            Err(reason) => format!(
                "the runner, which adds up what a program's processes use and ends them at the limit, because {reason}"
            ),
        };
        tracing::info!(
            memory_limit_bytes = settings.memory_limit_bytes,
            "memory is held by {held_by}",
        );
        Ok(Self {
            sandbox: Arc::new(sandbox),
            cgroups,
            queue: Queue::new(settings.max_concurrent(), settings.queue_timeout()),
            vcpu_second_price: settings.vcpu_second_price,
            ledger: Arc::default(),
            metrics,
        })
    }

    /// What has ended here.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.clone()
    }

    /// Why programs have no cgroup of their own; `None` where they do.
    #[must_use]
    pub fn why_no_cgroup(&self) -> Option<&NoCgroup> {
        self.cgroups.as_ref().err()
    }

    async fn run(&self, job: Job) -> Result<CodeExecutionStatus, BackendError> {
        let came = Instant::now();
        let turn = self.queue.turn().await?;
        let queued = came.elapsed();
        let session = Session::start(&self.sandbox, self.cgroups.as_ref().ok()).await;
        let mut session = session.map_err(|error| {
            tracing::error!(id = %job.id, %error, "failed to start a sandbox");
            BackendError::Unavailable
        })?;
        let status = session.run(&job, queued, self.vcpu_second_price).await;
        self.ledger.note(&job.spec.user, &status);
        self.metrics.executions.ended(false, &status);
        // The answer need not wait until the last process is gone, but the next program does.
        tokio::spawn(async move {
            session.end().await;
            drop(turn);
        });
        Ok(status)
    }
}

impl Drop for LocalBackend {
    fn drop(&mut self) {
        if let Ok(cgroups) = &self.cgroups {
            cgroups.wait_until_gone();
        }
    }
}

/// Starts the runner once, in a cgroup of its own.
async fn in_cgroup(settings: &Settings, sandbox: &Sandbox) -> Result<(Cgroups, Ready), NoCgroup> {
    if settings.cgroup == CgroupUse::Off {
        return Err(NoCgroup::Off);
    }
    let cgroups = Cgroups::find(settings.memory_limit_bytes)?;
    // What the first program would be refused is no cgroup to rely on.
    let report = first_start(sandbox, Some(&cgroups)).await;
    Ok((cgroups, report.map_err(NoCgroup::Trial)?))
}

async fn first_start(sandbox: &Sandbox, cgroups: Option<&Cgroups>) -> Result<Ready, String> {
    let session = Session::start(sandbox, cgroups).await;
    let mut session = session.map_err(|error| error.to_string())?;
    let report = session.report(FIRST_START).await;
    session.end().await;
    report
}

impl Backend for LocalBackend {
    fn execute(&self, job: Job) -> BoxFuture<'_, Result<CodeExecutionStatus, BackendError>> {
        self.run(job).boxed()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
