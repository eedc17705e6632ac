//! What `/metrics` tells, in Prometheus' text format, on a port of its own.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use codeexec_execution::metrics::Executions;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

type Labels<const N: usize> = [(&'static str, String); N];

/// What the text is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a refusal to the longest timeout with a queue before it. 3 is the plan's bound on the average.
fn duration_histogram() -> Histogram {
    Histogram::new([
        0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.0, 5.0, 10.0, 30.0, 60.0,
    ])
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels<3>, Counter>,
    durations: Family<Labels<2>, Histogram, fn() -> Histogram>,
    errors: Family<Labels<1>, Counter>,
    /// Requests that are not answered yet.
    pub in_flight: Gauge,
    /// Executions that ended in this process. A cluster's are counted by its operator.
    pub executions: Executions,
}

impl Metrics {
    /// The metrics of a server before a cluster, or, `alone`, of one that runs programs itself.
    #[must_use]
    pub fn new(alone: bool) -> Self {
        let mut registry = Registry::with_prefix("codeexec");
        let executions = Executions::default();
        if alone {
            executions.register(&mut registry);
        }
        let (requests, errors, in_flight) = (Family::default(), Family::default(), Gauge::default());
        let durations = Family::new_with_constructor(duration_histogram as fn() -> Histogram);
        registry.register(
            "api_requests",
            "Requests by method, path and status; 499 where the client did not wait for the answer",
            requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "From a request's arrival to its answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "api_errors",
            "Answers that are no result, by the word in their `code`: rate_limited, unauthorized, unavailable and so on",
            errors.clone(),
        );
        registry.register(
            "api_requests_in_flight",
            "Requests that are not answered yet",
            in_flight.clone(),
        );
        Self {
            registry,
            requests,
            durations,
            errors,
            in_flight,
            executions,
        }
    }

    /// Counts a request that was answered.
    pub fn answered(&self, method: &str, path: &str, status: u16, seconds: f64) {
        let (method, path) = (("method", method.to_owned()), ("path", path.to_owned()));
        let labels = [method.clone(), path.clone(), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&[method, path]).observe(seconds);
    }

    /// Counts an answer that is no result.
    pub fn error(&self, code: &'static str) {
        self.errors.get_or_create(&[("code", code.to_owned())]).inc();
    }

    /// All of it as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail, and the metrics' own encoders don't.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Serves `/metrics` and nothing else.
///
/// # Errors
/// When the listening socket breaks.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> io::Result<()> {
    let text = || async move { ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text()) };
    axum::serve(listener, Router::new().route("/metrics", get(text))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operator's have a test beside it.
    #[test]
    fn what_dashboard_and_alerts_ask_for_is_told() {
        let metrics = Metrics::new(false);
        metrics.answered("POST", "/api/execute", 200, 0.1);
        metrics.error("unavailable");
        let text = metrics.text();
        let monitoring = include_str!("../../charts/codeexec/files/dashboard.json").to_owned()
            + include_str!("../../charts/codeexec/templates/monitoring/prometheusrule.yaml");
        let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let asked: std::collections::BTreeSet<&str> = monitoring
            .split(|character| !word(character))
            .filter(|name| name.starts_with("codeexec_api_"))
            .collect();
        assert!(asked.len() >= 4, "{asked:?}");
        for name in asked {
            let told = |line: &str| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert!(text.lines().any(told), "{name} is not in\n{text}");
        }
    }

    #[test]
    fn local_mode_counts_executions_and_a_cluster_s_server_leaves_that_to_the_operator() {
        assert!(Metrics::new(true).text().contains("codeexec_cost_total 0"));
        assert!(!Metrics::new(false).text().contains("codeexec_cost_total"));
    }
}
