//! Events on executions that the platform failed, for `kubectl describe` and for whoever watches Events.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use codeexec_crds::{CodeExecution, Reason};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::debug;

use crate::connection::call;
use crate::metrics::Metrics;

/// Most Events a minute. etcd keeps each for an hour, and a cluster without room fails every execution alike.
const EVENTS_A_MINUTE: u32 = 30;

/// Longest note and longest name of a reporter that Kubernetes takes, in bytes.
const NOTE_BYTES: usize = 1024;
const INSTANCE_BYTES: usize = 128;

/// Tells of failures.
pub struct Failures {
    recorder: Recorder,
    told: Mutex<Told>,
}

/// Events of the minute that began last.
#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    events: u32,
}

impl Told {
    fn one_more(&mut self, now: Instant) -> bool {
        let over = |since: Instant| now.duration_since(since) >= Duration::from_secs(60);
        if self.since.is_none_or(over) {
            *self = Self {
                since: Some(now),
                events: 0,
            };
        }
        self.events += 1;
        self.events <= EVENTS_A_MINUTE
    }
}

impl Failures {
    /// Reports as the operator, `identity` among its replicas.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: "codeexec-operator".to_owned(),
            instance: Some(at_most(identity, INSTANCE_BYTES).to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            told: Mutex::default(),
        }
    }

    /// Makes an Event on an execution that ended for this reason, if the platform is to blame for it.
    pub async fn tell(&self, execution: &CodeExecution, reason: Reason, error: &str, metrics: &Metrics) {
        if !is_platform_s(reason) {
            return;
        }
        // A panic elsewhere can't have left a counter half written.
        let may = self
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .one_more(Instant::now());
        if !may {
            return metrics.event_dropped();
        }
        let event = Event {
            type_: EventType::Warning,
            reason: reason.as_str().to_owned(),
            note: Some(at_most(error, NOTE_BYTES).to_owned()),
            action: "Execute".to_owned(),
            secondary: None,
        };
        let reference = execution.object_ref(&());
        if let Err(error) = call(self.recorder.publish(&event, &reference)).await {
            metrics.event_dropped();
            debug!(execution = reference.name, %error, "could not make an Event");
        }
    }
}

/// Whether an execution ended so through no doing of its program or its user.
fn is_platform_s(reason: Reason) -> bool {
    match reason {
        Reason::ImagePull
        | Reason::Unschedulable
        | Reason::QuotaExceeded
        | Reason::Evicted
        | Reason::PodDeleted
        | Reason::NodeLost
        | Reason::IsolationUnavailable
        | Reason::InternalError => true,
        Reason::Completed
        | Reason::NonZeroExit
        | Reason::Signaled
        | Reason::DeadlineExceeded
        | Reason::OutOfMemory
        | Reason::Cancelled
        | Reason::Rejected => false,
    }
}

fn at_most(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_thirty_events_and_the_next_one_begins_anew() {
        let (mut told, start) = (Told::default(), Instant::now());
        let made = (0..100).filter(|_| told.one_more(start)).count();
        assert_eq!(made, 30);
        assert!(!told.one_more(start + Duration::from_secs(59)));
        assert!(told.one_more(start + Duration::from_secs(60)));
    }

    #[test]
    fn a_note_ends_between_characters() {
        assert_eq!(at_most("né", 2), "n");
        assert_eq!(at_most("né", 3), "né");
    }
}
