//! What a driver knows of a run apart from its frames.

use std::time::{Duration, Instant};

use codeexec_crds::Timings;
use codeexec_execution::outcome::Facts;
use jiff::{SignedDuration, Timestamp};

use super::Driver;
use crate::observe::PodView;
use crate::pod;
use crate::step::PodState;

impl Driver {
    pub(super) fn facts(&self, now: Timestamp) -> Facts {
        let view: Option<&PodView> = match &self.observed.pod {
            PodState::Exists(view) => Some(view),
            PodState::Gone(last) => last.as_deref(),
            PodState::NotCreated | PodState::Refused(_) => None,
        };
        let done = &self.observed.done;
        let had_pod = done.recorded || view.is_some();
        let run = self
            .transcript
            .result()
            .map(|result| Duration::from_millis(result.run_ms));
        Facts {
            generation: self.execution.metadata.generation,
            pod_name: had_pod.then(|| self.pod_name()),
            node_name: view.and_then(|view| view.node.clone()),
            image_digest: view.and_then(|view| self.context.images.digest(view)),
            warm: had_pod.then_some(self.claimed.is_some()),
            // The runner's clock is exact about how long it ran, ours about when that was reported.
            start_time: run.and_then(|run| now.checked_sub(SignedDuration::try_from(run).ok()?).ok()),
            timings: self.timings(run),
            network: self.ready.as_ref().map(|ready| ready.network).unwrap_or_default(),
            isolation: self.ready.as_ref().map(|ready| ready.isolation.clone()),
            runtime_class: view.and_then(|view| view.runtime_class.clone()),
            delivered: done.delivered || (done.taken_over && self.transcript.started()),
            vcpus: pod::vcpus(&self.context.settings, &self.pool),
            vcpu_second_price: self.context.settings.vcpu_second_price,
        }
    }

    fn timings(&self, run: Option<Duration>) -> Timings {
        let now = Instant::now();
        let clock = &self.clock;
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => millis(to.saturating_duration_since(from)),
            _ => 0,
        };
        let waited = clock.turn.map_or(Duration::ZERO, |turn| turn - clock.seen);
        let since_start = clock.started.map_or(Duration::ZERO, |at| now - at);
        Timings {
            queue_ms: millis(clock.queued + waited),
            start_ms: between(clock.turn.or(Some(clock.seen)), clock.ready),
            claim_ms: between(clock.ready, clock.started),
            run_ms: 0,
            collect_ms: millis(since_start.saturating_sub(run.unwrap_or_default())),
            total_ms: millis(now - clock.seen),
        }
    }
}
