//! What results may cost etcd, which holds every revision of an object until it is compacted.
//!
//! ```text
//!   result ── measure ──▶ bytes ── budget ──▶ Room ── shorten ──▶ what is written
//! ```
//!
//! Only the leader writes, so one budget is enough; a new leader reckons from the finished records what the one
//! before has spent ([`EtcdBudget::inherit`]).

mod budget;
mod measure;
mod shorten;
#[cfg(test)]
mod simulation;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use codeexec_crds::{CodeExecutionStatus, StoredBytes};
use jiff::Timestamp;

pub use self::budget::{Budget, Costs};
pub use self::measure::{object_bytes, stored, summary};
pub use self::shorten::{HEAD, Room, keep_half};

/// Times that the whole record is written from its result on: the result itself, and then its labels.
pub const WRITES_OF_A_RESULT: u64 = 2;

/// The budget that all drivers share.
#[derive(Debug)]
pub struct EtcdBudget(Mutex<Budget>);

impl EtcdBudget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(bytes: u64, window: Duration) -> Self {
        Self(Mutex::new(Budget::new(bytes, window, Timestamp::now())))
    }

    /// Cuts what a result keeps to what can be written at present, and spends that.
    pub fn fit(
        &self,
        now: Timestamp,
        object_bytes: u64,
        status: &mut CodeExecutionStatus,
    ) -> (Room, StoredBytes) {
        let whole = stored(object_bytes, status);
        let costs = Costs::of(|room| WRITES_OF_A_RESULT * room.kept(whole).total());
        let room = self.with(|budget| budget.take(now, costs));
        if room.shorten(status) {
            (room, stored(object_bytes, status))
        } else {
            (Room::Whole, whole)
        }
    }

    /// Counts what was written without asking.
    pub fn spend(&self, now: Timestamp, bytes: u64) {
        self.with(|budget| budget.spend(now, bytes));
    }

    /// Whether there is room for what can as well be left out.
    #[must_use]
    pub fn is_ample(&self, now: Timestamp) -> bool {
        self.with(|budget| budget.is_ample(now))
    }

    /// What is left, in bytes. Less than nothing after more small results than the budget is made for.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> i64 {
        self.with(|budget| budget.left(now))
    }

    /// Takes over what was spent before this process led: the end of each record, and its bytes.
    pub fn inherit(&self, now: Timestamp, ended: Vec<(Timestamp, u64)>) {
        self.with(|budget| budget.inherit(now, ended));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Budget) -> T) -> T {
        // A panic elsewhere can't have left two numbers half written.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
