//! What a pool's status says.

use std::time::{Duration, Instant};

use codeexec_crds::{ExecutorPoolStatus, LABEL_EXECUTION, LABEL_POOL};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::idle::IdlePod;
use super::report::Reports;
use super::state::Pool;
use crate::pod::label_value;
use codeexec_execution::isolation::Layer;

/// Type of the condition that says whether the pool has what it is to have.
const READY: &str = "Ready";

/// Shortest time between two writes in quiet moments, and while executions are in a hurry: a busy pool changes with
/// each of them, and its status is read by people.
const WRITE_EVERY: Duration = Duration::from_millis(250);
const WRITE_EVERY_BUSY: Duration = Duration::from_secs(2);

/// How soon it is looked again whether the moment is quiet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What was written last.
#[derive(Default)]
pub struct Told {
    status: Option<ExecutorPoolStatus>,
    at: Option<Instant>,
    /// A write has no answer yet.
    pub busy: bool,
}

impl Told {
    /// How long the next write has to wait; nothing when there is nothing to write.
    pub fn due(&self, status: &ExecutorPoolStatus, quiet: bool) -> Option<Duration> {
        if self.busy || self.status.as_ref() == Some(status) {
            return None;
        }
        let every = if quiet { WRITE_EVERY } else { WRITE_EVERY_BUSY };
        let wait = self
            .at
            .map_or(Duration::ZERO, |at| every.saturating_sub(at.elapsed()));
        Some(if quiet { wait } else { wait.min(LOOK_AGAIN) })
    }

    /// Notes a write that begins.
    pub fn begin(&mut self, status: &ExecutorPoolStatus) {
        self.status = Some(status.clone());
        self.at = Some(Instant::now());
        self.busy = true;
    }

    /// Notes its end. What was not written is tried again.
    pub fn end(&mut self, written: bool) {
        self.busy = false;
        if !written {
            self.status = None;
        }
    }
}

/// The status of a pool as it is now.
pub fn status(
    name: &str,
    pool: &Pool,
    reports: &Reports,
    required: &[Layer],
    now: Timestamp,
) -> ExecutorPoolStatus {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let (isolation, isolated) = reports.of(name, required, now).unzip();
    let before = pool
        .told
        .status
        .as_ref()
        .or_else(|| pool.object.as_ref()?.status.as_ref());
    let before = |kind: &str| -> Option<&Condition> {
        before?
            .conditions
            .as_ref()?
            .iter()
            .find(|condition| condition.type_ == kind)
    };
    let conditions = [Some(ready(pool, now)), isolated];
    let conditions = conditions.into_iter().flatten().map(|mut condition| {
        // When it became so, not when it was said again.
        if let Some(before) = before(&condition.type_).filter(|before| before.status == condition.status) {
            condition.last_transition_time = before.last_transition_time.clone();
        }
        condition
    });
    ExecutorPoolStatus {
        replicas: count(pool.idle.len()),
        ready: count(pool.ready()),
        claimed: count(pool.claimed()),
        queued: count(pool.queue.len()),
        selector: Some(format!("{LABEL_POOL}={},!{LABEL_EXECUTION}", label_value(name))),
        conditions: Some(conditions.collect()),
        isolation: isolation.or_else(|| pool.object.as_ref()?.status.as_ref()?.isolation.clone()),
    }
}

fn ready(pool: &Pool, now: Timestamp) -> Condition {
    let wanted = pool.wanted();
    let ready = pool.ready();
    let obstacle = pool.idle.values().find_map(IdlePod::obstacle);
    let (reason, message) = if ready >= wanted {
        (
            "AsWanted",
            format!("{ready} idle Pods are ready, {wanted} are wanted"),
        )
    } else {
        match obstacle.or_else(|| pool.problem.clone()) {
            Some((reason, message)) => (
                reason,
                format!("{ready} of {wanted} idle Pods are ready: {message}"),
            ),
            None => (
                "Refilling",
                format!("{ready} of {wanted} idle Pods are ready, others are being made"),
            ),
        }
    };
    Condition {
        type_: READY.to_owned(),
        status: if ready >= wanted { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(now),
        observed_generation: pool.object.as_ref().and_then(|object| object.metadata.generation),
    }
}
