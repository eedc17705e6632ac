//! HTTP for the exporter, whose thread is none of the runtime's.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// Deadline of one export.
pub const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// A client that works in the runtime it was made in.
#[derive(Debug)]
pub struct InRuntime {
    client: HyperClient,
    runtime: Handle,
}

impl InRuntime {
    /// In the current runtime.
    pub fn here() -> Self {
        Self {
            client: HyperClient::with_default_connector(EXPORT_DEADLINE, None),
            runtime: Handle::current(),
        }
    }
}

#[async_trait]
impl HttpClient for InRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { client.send_bytes(request).await })
            .await?
    }
}
