//! Runs programs on this machine: the same runner, in namespaces made by bubblewrap.
//!
//! ```text
//!   request ── queue ──▶ bwrap ──▶ runner (PID 1) ──▶ sandboxed python
//!      ▲                  stdin: request    stdout: frames    │
//!      └───────────────── outcome ◀── transcript ◀────────────┘
//! ```
//!
//! Each program has a task of its own, which whoever waits for its end only listens to: see `run.rs`.

mod cgroup;
mod checks;
mod live;
mod processes;
mod python;
mod queue;
mod records;
mod run;
mod sandbox;
mod session;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use codeexec_runner::frames::Ready;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::cgroup::Cgroups;
pub use self::cgroup::NoCgroup;
use self::checks::Missing;
use self::queue::Queue;
use self::records::Records;
use self::sandbox::Sandbox;
use self::session::Session;
use super::{Backend, BackendError, End, Execution, Job, Keep, Page, Progress, Query, Started};
use crate::limits::Limits;
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
    machine: Arc<Machine>,
}

/// What each program runs with.
#[derive(Debug)]
struct Machine {
    sandbox: Sandbox,
    /// What holds the programs' memory, or why the runner does.
    cgroups: Result<Cgroups, NoCgroup>,
    queue: Queue,
    vcpu_second_price: f64,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    records: Records,
    limits: Arc<Limits>,
}

impl LocalBackend {
    /// Checks what this machine has, and starts the runner once to see that it works.
    ///
    /// # Errors
    /// [`LocalError`].
    pub async fn start(
        settings: &Settings,
        limits: Arc<Limits>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LocalError> {
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
        let queue = Queue::new(settings.max_concurrent(), settings.queue_timeout());
        let machine = Arc::new(Machine {
            sandbox,
            cgroups,
            queue,
            records: Records::default(),
            limits,
            vcpu_second_price: settings.vcpu_second_price,
            ledger: Arc::default(),
            metrics,
        });
        Ok(Self { machine })
    }

    /// What has ended here.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        self.machine.ledger.clone()
    }

    /// Why programs have no cgroup of their own; `None` where they do.
    #[must_use]
    pub fn why_no_cgroup(&self) -> Option<&NoCgroup> {
        self.machine.cgroups.as_ref().err()
    }
}

impl Drop for Machine {
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
    fn start(&self, job: Job, keep: Keep) -> BoxFuture<'_, Result<Started, BackendError>> {
        ready(self.machine.clone().start(job, keep)).boxed()
    }

    fn rejoin(&self, job: Job) -> BoxFuture<'_, Result<Option<Started>, BackendError>> {
        ready(self.machine.rejoin(&job)).boxed()
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Execution>, BackendError>> {
        ready(Ok(self.machine.records.get(id))).boxed()
    }

    fn follow(&self, id: &str, next_seq: u64, progress_tx: mpsc::Sender<Progress>) -> End {
        match self.machine.records.find(id) {
            Some(record) => live::follow(record, next_seq, progress_tx).boxed(),
            None => ready(Err(BackendError::Deleted)).boxed(),
        }
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BackendError>> {
        ready(Ok(self.machine.records.list(&query))).boxed()
    }

    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        if let Some(record) = self.machine.records.find(id) {
            record.cancel.cancel();
        }
        ready(Ok(())).boxed()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
