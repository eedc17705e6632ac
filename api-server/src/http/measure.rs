//! Counts each request and how long it took. Labels have a bounded number of values: routes, not paths.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::log::CLIENT_CLOSED;
use crate::metrics::Metrics;

/// The word of an error, which an answer carries for its metric.
#[derive(Clone, Copy, Debug)]
pub struct ErrorCode(pub &'static str);

/// The middleware that counts.
pub async fn requests(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    metrics.in_flight.inc();
    let matched = request.extensions().get::<MatchedPath>();
    let mut measured = Measured {
        method: method(request.method()),
        path: matched.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned()),
        status: CLIENT_CLOSED,
        arrived: Instant::now(),
        metrics,
    };
    let response = next.run(request).await;
    measured.status = response.status().as_u16();
    if let Some(ErrorCode(code)) = response.extensions().get() {
        measured.metrics.error(code);
    }
    response
}

/// Counted when dropped: a client that hangs up drops the whole future.
struct Measured {
    method: &'static str,
    path: String,
    status: u16,
    arrived: Instant,
    metrics: Arc<Metrics>,
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        let seconds = self.arrived.elapsed().as_secs_f64();
        self.metrics
            .answered(self.method, &self.path, self.status, seconds);
    }
}

/// A client may send any word.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
