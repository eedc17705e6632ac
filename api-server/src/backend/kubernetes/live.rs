//! Tells of an execution while it goes on: how it stands from a watch of that one object, what it prints from its
//! Pod's log.
//!
//! ```text
//!   watch of the object ──▶ queued, started ──┐
//!                  └── its Pod's name ──▶ log ──┴──▶ progress      the watch's end ends both
//! ```

use std::sync::Arc;
use std::time::Duration;

use codeexec_crds::{CodeExecutionStatus, Phase};
use codeexec_runner::Printed;
use codeexec_runner::frames::{Decoder, FromRunner};
use futures::{AsyncBufReadExt, pin_mut};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::api::ApiError;
use super::record::Record;
use super::{Replica, not_read};
use crate::backend::{BackendError, Progress};

/// Before a log that broke off is read again. It also ends where the Pod did, a moment before the result stands.
const PAUSE: Duration = Duration::from_millis(300);

/// What a version of the object tells.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    position: Option<i32>,
    /// The Pod in which it runs, and since when.
    running: Option<(String, Option<Timestamp>)>,
}

impl Standing {
    fn of(record: &Record) -> Self {
        let Some(status) = &record.status else {
            return Self {
                position: None,
                running: None,
            };
        };
        let runs = status.phase == Some(Phase::Running);
        let since = status.start_time.as_ref().map(|time| time.0);
        Self {
            position: status.queue_position,
            running: status.pod_name.clone().filter(|_| runs).map(|pod| (pod, since)),
        }
    }
}

/// Why nothing more is told for now.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    /// Nobody listens any more.
    #[error("nobody listens")]
    NobodyListens,
    /// The Pod's log can't be read.
    #[error(transparent)]
    Log(#[from] ApiError),
}

impl Replica {
    pub(super) async fn live(
        self: Arc<Self>,
        id: String,
        next_seq: u64,
        progress_tx: mpsc::Sender<Progress>,
    ) -> Result<CodeExecutionStatus, BackendError> {
        let found = self.executions.get(&id).await;
        let record = found.map_err(|error| not_read(&id, &error))?;
        let record = record.ok_or(BackendError::Deleted)?;
        let metadata = &record.metadata;
        let version = metadata.resource_version.clone().unwrap_or_default();
        let printed = Printed::from(metadata.uid.clone().unwrap_or_default(), next_seq);
        let (standing_tx, standing_rx) = watch::channel(Standing::of(&record));
        if let Some(status) = record.into_end() {
            return Ok(status);
        }
        let end = self.follow_one(&id, version, |record| {
            let standing = Standing::of(record);
            standing_tx.send_if_modified(|last| {
                let is_news = *last != standing;
                *last = standing;
                is_news
            });
        });
        let tell = async {
            // The end is what is left to wait for, whether or not anybody listens to what comes before.
            let _ = self.tell(standing_rx, printed, &progress_tx).await;
            std::future::pending().await
        };
        tokio::select! {
            end = end => end,
            never = tell => never,
        }
    }

    /// Tells how it stands, and once it runs what it prints, for as long as anybody listens.
    async fn tell(
        &self,
        mut standing_rx: watch::Receiver<Standing>,
        mut printed: Printed,
        progress_tx: &mpsc::Sender<Progress>,
    ) -> Result<(), Interrupted> {
        let (pod, at) = loop {
            let Standing { position, running } = standing_rx.borrow_and_update().clone();
            if let Some(running) = running {
                break running;
            }
            send(progress_tx, Progress::Queued { position }).await?;
            if standing_rx.changed().await.is_err() {
                return Ok(());
            }
        };
        send(progress_tx, Progress::Started { at }).await?;
        loop {
            match self.print(&pod, &mut printed, progress_tx).await {
                Err(Interrupted::Log(error)) => {
                    tracing::debug!(%pod, %error, "failed to read the log of Pod");
                }
                told => told?,
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells what the Pod's log holds and gets, until that ends.
    async fn print(
        &self,
        pod: &str,
        printed: &mut Printed,
        progress_tx: &mpsc::Sender<Progress>,
    ) -> Result<(), Interrupted> {
        let log = self.executions.log(pod).await?;
        pin_mut!(log);
        let mut decoder = Decoder::<FromRunner>::default();
        loop {
            let read = log.fill_buf().await;
            let bytes = read.map_err(|error| ApiError::Kube(kube::Error::ReadEvents(error)))?;
            if bytes.is_empty() {
                return Ok(());
            }
            let (length, frames) = (bytes.len(), decoder.push(bytes));
            log.consume_unpin(length);
            for output in frames.into_iter().filter_map(|frame| printed.push(frame)) {
                send(progress_tx, Progress::Printed(output)).await?;
            }
        }
    }
}

async fn send(progress_tx: &mpsc::Sender<Progress>, progress: Progress) -> Result<(), Interrupted> {
    let sent = progress_tx.send(progress).await;
    sent.map_err(|_| Interrupted::NobodyListens)
}
