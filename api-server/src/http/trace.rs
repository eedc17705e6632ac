//! A span for each request to the API, where traces are on.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use codeexec_trace::Tracing;

/// The same router, whose requests are traced.
pub fn traced(router: Router, tracing: Tracing) -> Router {
    router.layer(middleware::from_fn_with_state(tracing, requests))
}

async fn requests(State(tracing): State<Tracing>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    // Probes come every few seconds and lead nowhere.
    let Some(route) = route.filter(|route| route.as_str().starts_with("/api/")) else {
        return next.run(request).await;
    };
    let parent = request
        .headers()
        .get("traceparent")
        .and_then(|value| value.to_str().ok());
    let span = tracing.request(parent, request.method().as_str(), route.as_str());
    let response = span.cover(next.run(request)).await;
    span.answered(response.status().as_u16());
    response
}
