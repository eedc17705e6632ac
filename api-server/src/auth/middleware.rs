//! Stands before everything below `/api` but the health check, and lets in whoever is somebody.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::time::timeout;

use crate::app::App;
use crate::http::log::Noted;

/// How much of a refused request's body is read, in bytes, and for how long: many clients only look at the
/// answer once they have sent everything, and one whose connection closes before sees none. It holds all that
/// a usual program needs.
const DRAINED_BYTES: usize = 128 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// Puts the [`Identity`](super::Identity) into the request's extensions, or answers 401, 403 or 503.
pub async fn identify(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(noted): Extension<Noted>,
    mut request: Request,
    next: Next,
) -> Response {
    match app.auth.identify(peer.ip(), request.headers()).await {
        Ok(identity) => {
            noted.caller(&identity);
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(refusal) => {
            // One that waits for our word before it sends anything has not sent anything.
            if !request.headers().contains_key(header::EXPECT) {
                // However long it takes: then there is no answer to see either.
                let _ = timeout(DRAIN_PATIENCE, drain(request.into_body())).await;
            }
            refusal.into_response()
        }
    }
}

async fn drain(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut total = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        total += piece.len();
        if total > DRAINED_BYTES {
            return;
        }
    }
}
