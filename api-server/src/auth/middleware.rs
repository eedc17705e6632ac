//! Stands before everything below `/api` but the health check, and lets in whoever is somebody.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::http::drain::drain;
use crate::http::log::Noted;

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
            drain(request).await;
            refusal.into_response()
        }
    }
}
