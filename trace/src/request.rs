//! The API server's span: from a request's arrival to its answer.

use std::future::Future;

use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use crate::{Tracing, parent};

/// The span of a request. It ends when it is dropped, which a client that hangs up does to it.
#[derive(Debug)]
pub struct RequestSpan(Context);

impl Tracing {
    /// Begins the span of a request to a route, under the span that its `traceparent` names.
    #[must_use]
    pub fn request(&self, traceparent: Option<&str>, method: &str, route: &str) -> RequestSpan {
        let parent = parent::context(traceparent);
        let attributes = [
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
        ];
        let span = self
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &parent);
        RequestSpan(parent.with_span(span))
    }
}

impl RequestSpan {
    /// Works on the request's behalf: [`current`](crate::current) names this span meanwhile.
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.0.clone()).await
    }

    /// Notes the status of the answer.
    pub fn answered(&self, status: u16) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        // What a client did wrong is no error of the server's, says OpenTelemetry.
        if status >= 500 {
            span.set_status(Status::error(""));
        }
    }
}
