//! What users have run and what it cost, over a period: `GET /api/usage`.
//!
//! ```text
//!   cluster  metadata of finished records, a page at a time ─┐
//!   local    the last programs, in memory ───────────────────┴─▶ report::Tally ─▶ Report
//! ```
//!
//! It knows what records know, and no longer: a record goes with its `ttlSecondsAfterFinished`. What is to be kept for
//! good is in the metrics and in the operator's log.

pub mod ledger;
mod month;
pub mod period;
pub mod records;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use self::ledger::Ledger;
pub use self::period::Period;
pub use self::records::Records;
pub use self::report::{Report, Tally};

/// How long a report may take, its turn included. 20,000 records are 80 pages.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The Kubernetes API refuses, or can't be reached.
    #[error("the records can't be read: {0}")]
    Kube(#[from] kube::Error),
    /// It took too long.
    #[error("the records were not read within {} s", PATIENCE.as_secs())]
    Deadline,
}

/// Where the records are.
#[derive(Debug)]
pub enum Source {
    /// In the cluster.
    Records(Box<Records>),
    /// In this process.
    Ledger(Arc<Ledger>),
}

/// Makes reports, one at a time: each reads all records.
#[derive(Debug)]
pub struct Usage {
    source: Source,
    free_vcpu_seconds: f64,
    turn: Semaphore,
}

impl Usage {
    /// Reports on what is in `source`, with so many vCPU-seconds free a month.
    #[must_use]
    pub fn new(source: Source, free_vcpu_seconds: f64) -> Self {
        Self {
            source,
            free_vcpu_seconds,
            turn: Semaphore::new(1),
        }
    }

    /// The usage of one user, or of all.
    ///
    /// # Errors
    /// [`UsageError`].
    pub async fn report(&self, period: &Period, user: Option<&str>) -> Result<Report, UsageError> {
        let work = async {
            // Never closed, so there is a turn.
            let _turn = self.turn.acquire().await.ok();
            let mut tally = Tally::new(*period, user);
            match &self.source {
                Source::Records(records) => records.tell(user, &mut tally).await?,
                Source::Ledger(ledger) => ledger.tell(&mut tally),
            }
            Ok(tally.report(self.free_vcpu_seconds))
        };
        tokio::time::timeout(PATIENCE, work)
            .await
            .map_err(|_| UsageError::Deadline)?
    }
}
