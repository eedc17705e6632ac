//! Traces over OTLP, one from a request to the stages of its execution.
//!
//! ```text
//!   traceparent of the client ──▶ POST /api/execute          the API server's span
//!                                   │ annotation of the CodeExecution
//!                                   └─▶ execution            the operator's
//!                                         ├─ queue, start, claim, run, collect
//! ```
//!
//! Without an endpoint nothing of this exists. The operator's spans are made once an execution has ended, of the
//! timings in its status: nothing is traced while anybody waits.

mod client;
mod execution;
mod parent;
mod request;
mod settings;

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

pub use self::client::EXPORT_DEADLINE;
pub use self::parent::current;
pub use self::request::RequestSpan;
pub use self::settings::{Endpoint, TraceSettings};

/// How long what was not sent yet may hold up the end of the process.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The exporter can't be set up.
    #[error("failed to set up traces to {endpoint} (--otlp-endpoint): {source}")]
    Exporter {
        /// As asked for.
        endpoint: Endpoint,
        /// What the exporter says.
        source: ExporterBuildError,
    },
}

/// Makes spans and sends them, in batches, from a thread of its own.
#[derive(Clone, Debug)]
pub struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracing {
    /// Traces as `service`, if the settings say where to. Needs a Tokio runtime, which does the sending.
    ///
    /// # Errors
    /// [`TraceError`]. A collector that can't be reached is none: spans are dropped meanwhile.
    pub fn start(settings: &TraceSettings, service: &'static str) -> Result<Option<Self>, TraceError> {
        let Some(endpoint) = &settings.otlp_endpoint else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client::InRuntime::here())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.traces())
            .build()
            .map_err(|source| TraceError::Exporter {
                endpoint: endpoint.clone(),
                source,
            })?;
        // What a client decided for its own trace holds; the ratio is for traces that begin here.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.trace_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(Resource::builder().with_service_name(service).build())
            .build();
        let tracer = provider.tracer("codeexec");
        Ok(Some(Self { provider, tracer }))
    }

    /// Sends what was not sent yet, within a bound.
    pub async fn stop(self) {
        let stop = move || self.provider.shutdown_with_timeout(STOP_PATIENCE);
        // What could not be sent is lost, and nobody is left to be told.
        let _ = tokio::task::spawn_blocking(stop).await;
    }
}
