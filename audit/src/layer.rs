//! Writes audit lines as they are, whatever level and format the rest of the log has.

use std::io::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::TARGET;

/// Has a line written.
pub(crate) fn emit(line: &str) {
    tracing::info!(target: TARGET, line);
}

/// The layer that writes audit lines, and nothing else. No filter of the log's level silences it.
pub fn layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    let only_audit = Targets::new().with_target(TARGET, Level::INFO);
    Lines(writer).with_filter(only_audit)
}

struct Lines<W>(W);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Writing(self.0.make_writer()));
    }
}

struct Writing<W>(W);

impl<W: Write> Visit for Writing<W> {
    fn record_str(&mut self, field: &Field, line: &str) {
        if field.name() == "line" {
            // In one piece, so that lines of other threads don't mix with it. One that can't be written can't be told of.
            let _ = self.0.write_all(line.as_bytes());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
