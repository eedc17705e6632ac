//! The task of one program, from its place in the queue to its record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_audit::Execution as Audited;
use codeexec_crds::{CodeExecutionSpec, CodeExecutionStatus};
use codeexec_execution::outcome::{self, End, Facts};
use codeexec_runner::Transcript;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Machine;
use super::queue::Place;
use super::records::{Opened, Record, State};
use super::session::Session;
use crate::backend::{BackendError, Job, Keep, Started};

impl Machine {
    /// Takes a program on, or finds the one that has its name.
    pub(super) fn start(self: Arc<Self>, job: Job, keep: Keep) -> Result<Started, BackendError> {
        let (record, state_tx) = match self.records.open(&job) {
            Opened::New(record, state_tx) => (record, state_tx),
            Opened::Existing(record) => return joined(&record, &job.spec),
        };
        let place = match self.queue.place() {
            Ok(place) => place,
            Err(busy) => {
                self.records.discard(&job.id);
                return Err(busy);
            }
        };
        let unwanted = match keep {
            Keep::WhileWaitedFor => Some(record.cancel.clone().drop_guard()),
            Keep::ToItsEnd => None,
        };
        let over = Over {
            machine: self.clone(),
            user: job.spec.user.clone(),
            id: job.id.clone(),
        };
        tokio::spawn(task(over, job, place, record.clone(), state_tx));
        let end = end(record.state_rx);
        let end = async move {
            let ended = end.await;
            // Nothing is left to be cancelled.
            drop(unwanted.map(tokio_util::sync::DropGuard::disarm));
            ended
        };
        Ok(Started {
            is_new: true,
            end: end.boxed(),
        })
    }

    /// Finds the program that has this one's name.
    pub(super) fn rejoin(&self, job: &Job) -> Result<Option<Started>, BackendError> {
        let record = self.records.find(&job.id);
        record.map(|record| joined(&record, &job.spec)).transpose()
    }

    async fn run(
        &self,
        job: &Job,
        place: Place,
        record: &Record,
        state_tx: &watch::Sender<State>,
    ) -> CodeExecutionStatus {
        let cancel = &record.cancel;
        let without_run = |end: End| {
            let nothing = Transcript::new(&job.id);
            outcome::status(&job.spec, &end, &nothing, Facts::default(), Timestamp::now())
        };
        let came = Instant::now();
        let turn = tokio::select! {
            turn = place.turn() => turn,
            () = cancel.cancelled() => return without_run(End::Cancelled),
        };
        let Ok(turn) = turn else {
            let message = "other programs had all turns for as long as one may wait";
            return without_run(End::Unschedulable(message.to_owned()));
        };
        state_tx.send_replace(State::Running);
        let queued = came.elapsed();
        let session = tokio::select! {
            session = Session::start(&self.sandbox, self.cgroups.as_ref().ok()) => session,
            () = cancel.cancelled() => return without_run(End::Cancelled),
        };
        let mut session = match session {
            Ok(session) => session,
            Err(error) => {
                tracing::error!(id = %job.id, %error, "failed to start a sandbox");
                return without_run(End::Internal("the sandbox could not be started".to_owned()));
            }
        };
        let status = session.run(job, queued, self.vcpu_second_price, record).await;
        // The answer need not wait until the last process is gone, but the next program does.
        tokio::spawn(async move {
            session.end().await;
            drop(turn);
        });
        status
    }
}

async fn task(over: Over, job: Job, place: Place, record: Record, state_tx: watch::Sender<State>) {
    let machine = over.machine.clone();
    let status = machine.run(&job, place, &record, &state_tx).await;
    let ttl = Duration::from_secs(u64::try_from(job.spec.ttl_seconds_after_finished).unwrap_or_default());
    machine.records.ended(&job.id, &status, ttl);
    machine.ledger.note(&job.spec.user, &status);
    machine.metrics.executions.ended(false, &status);
    // There is no object with a uid of its own.
    Audited::ended(&job.id, &job.id, &job.spec, &status).write();
    // Before anybody learns of the end, and begins the next one.
    drop(over);
    state_tx.send_replace(State::Ended(Arc::new(status)));
    // The status has all of it.
    record.printed.clear();
}

fn joined(record: &Record, spec: &CodeExecutionSpec) -> Result<Started, BackendError> {
    if !record.is_of(spec) {
        return Err(BackendError::KeyReused);
    }
    Ok(Started {
        is_new: false,
        end: end(record.state_rx.clone()).boxed(),
    })
}

pub(super) async fn end(mut state_rx: watch::Receiver<State>) -> Result<CodeExecutionStatus, BackendError> {
    let ended = state_rx.wait_for(|state| matches!(state, State::Ended(_))).await;
    match ended.as_deref() {
        Ok(State::Ended(status)) => Ok(CodeExecutionStatus::clone(status)),
        // Its task is gone without a word.
        Ok(_) | Err(_) => Err(BackendError::NoResult),
    }
}

/// Says that an execution is over, however it came to that.
struct Over {
    machine: Arc<Machine>,
    user: String,
    id: String,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.machine.limits.ended(&self.user, &self.id);
    }
}
