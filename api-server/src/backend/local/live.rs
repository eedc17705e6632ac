//! Tells of a program while it runs: what it has printed is kept until its end for whoever comes to look.

use std::sync::Arc;

use codeexec_crds::CodeExecutionStatus;
use codeexec_runner::frames::Output;
use tokio::sync::{mpsc, watch};

use super::records::{Record, State};
use super::run::end;
use crate::backend::{BackendError, Progress};

/// What a program has printed, in the runner's pieces, whose bound on output is this one's too.
#[derive(Clone, Debug, Default)]
pub struct Printed(Arc<watch::Sender<Vec<Output>>>);

impl Printed {
    /// Adds a piece.
    pub fn push(&self, output: Output) {
        self.0.send_modify(|pieces| pieces.push(output));
    }

    /// Forgets all of it.
    pub fn clear(&self) {
        self.0.send_modify(Vec::clear);
    }
}

/// Tells of an execution until its end, which comes back.
///
/// # Errors
/// [`BackendError::NoResult`], where its task is gone without a word.
pub async fn follow(
    record: Record,
    next_seq: u64,
    progress_tx: mpsc::Sender<Progress>,
) -> Result<CodeExecutionStatus, BackendError> {
    let tell = async {
        // The end is what is left to wait for, whether or not anybody listens to what comes before.
        let _ = tell(&record, next_seq, &progress_tx).await;
        std::future::pending().await
    };
    tokio::select! {
        end = end(record.state_rx.clone()) => end,
        never = tell => never,
    }
}

/// Tells what there is and comes, until the end, or until nobody listens.
async fn tell(record: &Record, mut next_seq: u64, progress_tx: &mpsc::Sender<Progress>) -> Option<()> {
    let mut state_rx = record.state_rx.clone();
    let runs = |state: &State| !matches!(state, State::Queued);
    if !runs(&state_rx.borrow()) {
        let waits = Progress::Queued { position: None };
        progress_tx.send(waits).await.ok()?;
    }
    state_rx.wait_for(runs).await.ok()?;
    progress_tx.send(Progress::Started { at: None }).await.ok()?;
    let mut pieces_rx = record.printed.0.subscribe();
    loop {
        let is_new = |output: &&Output| output.seq >= next_seq;
        let pieces: Vec<Output> = pieces_rx
            .borrow_and_update()
            .iter()
            .filter(is_new)
            .cloned()
            .collect();
        for output in pieces {
            next_seq = output.seq + 1;
            progress_tx.send(Progress::Printed(output)).await.ok()?;
        }
        pieces_rx.changed().await.ok()?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use codeexec_crds::{CodeExecutionSpec, Phase};
    use codeexec_runner::frames::Stream;

    use super::super::records::{Opened, Records};
    use super::*;
    use crate::backend::Job;

    fn piece(seq: u64) -> Output {
        Output {
            stream: Stream::Stdout,
            seq,
            data: format!("{seq}\n"),
        }
    }

    fn opened() -> (Record, watch::Sender<State>) {
        let spec = CodeExecutionSpec::python("print(1)");
        let job = Job {
            id: "cex-1".to_owned(),
            spec,
            live: true,
        };
        match Records::default().open(&job) {
            Opened::New(record, state_tx) => (record, state_tx),
            Opened::Existing(_) => panic!("there was none"),
        }
    }

    #[tokio::test]
    async fn whoever_comes_late_gets_what_was_printed_before_and_then_the_end() {
        let (record, state_tx) = opened();
        state_tx.send_replace(State::Running);
        record.printed.push(piece(0));
        record.printed.push(piece(1));
        let (progress_tx, mut progress_rx) = mpsc::channel(4);
        let followed = tokio::spawn(follow(record.clone(), 1, progress_tx));
        assert_eq!(progress_rx.recv().await, Some(Progress::Started { at: None }));
        assert_eq!(progress_rx.recv().await, Some(Progress::Printed(piece(1))));
        record.printed.push(piece(2));
        assert_eq!(progress_rx.recv().await, Some(Progress::Printed(piece(2))));
        let status = CodeExecutionStatus {
            phase: Some(Phase::Succeeded),
            ..CodeExecutionStatus::default()
        };
        state_tx.send_replace(State::Ended(Arc::new(status.clone())));
        assert_eq!(followed.await.unwrap(), Ok(status));
        assert_eq!(progress_rx.recv().await, None);
    }

    #[tokio::test]
    async fn one_that_waits_is_told_so_and_one_that_is_lost_has_no_result() {
        let (record, state_tx) = opened();
        let (progress_tx, mut progress_rx) = mpsc::channel(4);
        let followed = tokio::spawn(follow(record, 0, progress_tx));
        assert_eq!(
            progress_rx.recv().await,
            Some(Progress::Queued { position: None })
        );
        drop(state_tx);
        assert_eq!(followed.await.unwrap(), Err(BackendError::NoResult));
    }

    #[tokio::test]
    async fn a_listener_that_takes_nothing_does_not_hold_up_the_end() {
        let (record, state_tx) = opened();
        state_tx.send_replace(State::Running);
        (0..100).for_each(|seq| record.printed.push(piece(seq)));
        let (progress_tx, _progress_rx) = mpsc::channel(1);
        let followed = tokio::spawn(follow(record, 0, progress_tx));
        state_tx.send_replace(State::Ended(Arc::default()));
        assert!(followed.await.unwrap().is_ok());
    }
}
