//! What reaches a collector, over a socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use codeexec_crds::{CodeExecutionStatus, Phase, Reason, Timings};
use codeexec_trace::{TraceSettings, Tracing, current};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A collector on this machine, and what it has got.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

async fn take(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("a request in protobuf");
    collector.0.lock().expect("no panic").push(request);
}

impl Collector {
    /// Traces that go to it.
    async fn tracing(&self, ratio: f64) -> Tracing {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let settings = TraceSettings {
            otlp_endpoint: Some(format!("http://{address}").parse().expect("an endpoint")),
            trace_ratio: ratio,
        };
        Tracing::start(&settings, "codeexec-test")
            .expect("traces")
            .expect("an endpoint is set")
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().expect("no panic");
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn ended() -> CodeExecutionStatus {
    CodeExecutionStatus {
        phase: Some(Phase::Failed),
        reason: Some(Reason::NonZeroExit),
        output: Some("a secret".to_owned()),
        error: Some("a secret".to_owned()),
        pod_name: Some("exec-1".to_owned()),
        completion_time: Some(k8s_time("2026-01-01T00:00:10Z")),
        timings: Some(Timings {
            queue_ms: 100,
            start_ms: 0,
            claim_ms: 20,
            run_ms: 800,
            collect_ms: 5,
            total_ms: 900,
        }),
        ..CodeExecutionStatus::default()
    }
}

fn k8s_time(text: &str) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(text.parse().expect("a time"))
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_client_to_the_stages_of_its_execution() {
    let collector = Collector::default();
    let tracing = collector.tracing(0.0).await;
    // The ratio is for traces that begin here; this one began with the client.
    let header = format!("00-{TRACE}-{CALLER}-01");
    let request = tracing.request(Some(&header), "POST", "/api/execute");
    let annotation = request.cover(async { current() }).await;
    request.answered(200);
    drop(request);
    tracing.execution(annotation.as_deref(), "cex-1", &ended());
    tracing.stop().await;

    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let span = |name: &str| {
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("no {name}: {spans:?}"))
    };
    let (request, execution) = (span("POST /api/execute"), span("execution"));
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(execution.parent_span_id, request.span_id);
    let mut at = execution.start_time_unix_nano;
    for (name, ms) in [("queue", 100), ("claim", 20), ("run", 800), ("collect", 5)] {
        let stage = span(name);
        assert_eq!(stage.parent_span_id, execution.span_id, "{name}");
        assert_eq!(stage.start_time_unix_nano, at, "{name}");
        at += ms * 1_000_000;
        assert_eq!(stage.end_time_unix_nano, at, "{name}");
    }
    assert_eq!(execution.end_time_unix_nano, at);
    assert_eq!(at, 1_767_225_610_000_000_000);
    // A stage that took no time was none.
    assert_eq!(spans.len(), 6);
    let told = format!("{spans:?}");
    assert!(told.contains("exec-1") && told.contains("NonZeroExit"), "{told}");
    assert!(!told.contains("a secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_does_not_want_traced_is_passed_on_and_not_traced() {
    let collector = Collector::default();
    let tracing = collector.tracing(1.0).await;
    let header = format!("00-{TRACE}-{CALLER}-00");
    let request = tracing.request(Some(&header), "POST", "/api/execute");
    let annotation = request.cover(async { current() }).await.expect("a header");
    assert!(
        annotation.starts_with(&format!("00-{TRACE}-")) && annotation.ends_with("-00"),
        "{annotation}"
    );
    drop(request);
    tracing.execution(Some(&annotation), "cex-1", &ended());
    tracing.stop().await;
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_holds_nothing_up_for_long() {
    let settings = TraceSettings {
        // Nothing listens on this port of this machine.
        otlp_endpoint: Some("http://127.0.0.1:9".parse().expect("an endpoint")),
        trace_ratio: 1.0,
    };
    let tracing = Tracing::start(&settings, "codeexec-test")
        .expect("traces")
        .expect("an endpoint is set");
    tracing.execution(None, "cex-1", &ended());
    tokio::time::timeout(Duration::from_secs(8), tracing.stop())
        .await
        .expect("it stops");
}

#[tokio::test]
async fn without_an_endpoint_there_are_no_traces() {
    assert!(
        Tracing::start(&TraceSettings::default(), "codeexec-test")
            .expect("nothing to fail")
            .is_none()
    );
}
