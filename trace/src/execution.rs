//! The operator's spans: an execution and its stages, made of the status that it ended with.

use std::time::{Duration, SystemTime};

use codeexec_crds::{CodeExecutionStatus, Phase, Reason, Timings};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, Status, TraceContextExt, Tracer};

use crate::{Tracing, parent};

/// A stage, and for how long it lasted.
type Stage = (&'static str, Duration);

/// The stages of an execution, one after the other.
fn stages(timings: &Timings) -> [Stage; 5] {
    [
        ("queue", timings.queue_ms),
        ("start", timings.start_ms),
        ("claim", timings.claim_ms),
        ("run", timings.run_ms),
        ("collect", timings.collect_ms),
    ]
    .map(|(name, ms)| (name, Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
}

impl Tracing {
    /// Makes the spans of an execution that has ended, under the span that its `traceparent` names.
    pub fn execution(&self, traceparent: Option<&str>, name: &str, status: &CodeExecutionStatus) {
        let Some(ended) = &status.completion_time else {
            return;
        };
        let ended = SystemTime::from(ended.0);
        let stages = stages(&status.timings.unwrap_or_default());
        let took: Duration = stages.iter().map(|(_, took)| *took).sum();
        let began = ended.checked_sub(took).unwrap_or(ended);
        let parent = parent::context(traceparent);
        let mut span = self
            .tracer
            .span_builder("execution")
            .with_start_time(began)
            .with_attributes(attributes(name, status))
            .start_with_context(&self.tracer, &parent);
        if !span.is_recording() {
            return;
        }
        if status.phase != Some(Phase::Succeeded) {
            let reason = status.reason.map_or("", Reason::as_str);
            span.set_status(Status::error(reason));
        }
        let context = parent.with_span(span);
        let mut at = began;
        // A stage that took no time was none: an execution that failed in the queue has not run.
        for (name, took) in stages.into_iter().filter(|(_, took)| !took.is_zero()) {
            let builder = self.tracer.span_builder(name).with_start_time(at);
            at += took;
            builder
                .start_with_context(&self.tracer, &context)
                .end_with_timestamp(at);
        }
        context.span().end_with_timestamp(ended);
    }
}

/// Never the code, what it printed, or an error's text, which may quote both.
fn attributes(name: &str, status: &CodeExecutionStatus) -> Vec<KeyValue> {
    let texts = [
        ("codeexec.execution", Some(name)),
        ("codeexec.phase", status.phase.map(Phase::as_str)),
        ("codeexec.reason", status.reason.map(Reason::as_str)),
        ("k8s.pod.name", status.pod_name.as_deref()),
        ("k8s.node.name", status.node_name.as_deref()),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(key, value)| Some(KeyValue::new(key, value?.to_owned())));
    let warm = status.warm.map(|warm| KeyValue::new("codeexec.warm", warm));
    texts.chain(warm).collect()
}
