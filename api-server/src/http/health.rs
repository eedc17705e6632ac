//! Whether the service lives, and whether it can be used.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use crate::app::App;

/// What `GET /api/execute` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    /// "ok".
    status: &'static str,
    /// "code-executor".
    service: &'static str,
    /// The server's version.
    version: &'static str,
}

/// `GET /api/execute`, the plan's health check.
pub async fn service() -> Json<Health> {
    Json(Health {
        status: "ok",
        service: "code-executor",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// `GET /healthz`: the process lives. It says nothing of the backend, or a lost one would have us restarted.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: programs can be run here.
///
/// # Errors
/// 503 while they can't.
pub async fn readyz(State(app): State<App>) -> Result<&'static str, ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::unavailable(
            "not_ready",
            "the server is shutting down",
            2,
        ));
    }
    match app.auth.ready().and_then(|()| app.backend.ready()) {
        Ok(()) => Ok("ok\n"),
        Err(why) => Err(ApiError::unavailable("not_ready", why, 2)),
    }
}
