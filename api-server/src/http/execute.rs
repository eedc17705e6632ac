//! `POST /api/execute`.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use codeexec_crds::CodeExecutionSpec;
use futures::StreamExt;

use super::answer::{Executed, answer, failure};
use super::body;
use super::error::ApiError;
use super::log::{Arrived, ExecutionId};
use crate::app::App;
use crate::auth::Identity;
use crate::backend::{Job, new_id};

/// How long a client may take to send its body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// How much of a body that is too large is read all the same: many clients only look at the answer once they
/// have sent everything, and a connection that is closed before shows them no answer at all.
const DRAINED_BYTES: usize = 16 * 1024 * 1024;

/// Not among the names that the `http` crate knows.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Runs a program and answers with what came of it.
pub async fn execute(
    State(app): State<App>,
    Extension(Arrived(arrived)): Extension<Arrived>,
    Extension(logged): Extension<ExecutionId>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let spec = match request(&app, &identity, &headers, body).await {
        Ok(spec) => spec,
        Err(error) => return error.into_response(),
    };
    let id = new_id();
    logged.set(&id);
    let job = Job { id: id.clone(), spec };
    let result = match app.backend.execute(job).await {
        Ok(status) => answer(&id, status, arrived.elapsed()),
        Err(error) => Err(failure(&id, &error)),
    };
    match result {
        Ok(executed) => {
            let timing = [(SERVER_TIMING, executed.server_timing())];
            (timing, Json::<Executed>(executed)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn request(
    app: &App,
    identity: &Identity,
    headers: &HeaderMap,
    body: Body,
) -> Result<CodeExecutionSpec, ApiError> {
    if !is_json(headers) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Content-Type must be application/json",
        ));
    }
    let bytes = tokio::time::timeout(BODY_PATIENCE, read(headers, body, app.body_limit))
        .await
        .map_err(|_| {
            let message = format!(
                "the request body did not come within {} s",
                BODY_PATIENCE.as_secs()
            );
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
        })??;
    let mut spec = body::parse(&bytes).map_err(|error| ApiError::invalid(error.to_string()))?;
    spec.user.clone_from(&identity.user);
    codeexec_execution::validate(&spec).map_err(|violation| ApiError::invalid(violation.to_string()))?;
    Ok(spec)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.map(|value| value.split(';').next().unwrap_or_default().trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the request body must be at most {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_too_long = announced.is_some_and(|length| length > limit as u64);
    // Such a client waits for our word before it sends anything; reading would give it.
    if is_too_long && headers.contains_key(header::EXPECT) {
        return Err(too_large());
    }
    let mut kept = Vec::new();
    let mut total = 0;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| ApiError::invalid("the request body broke off"))?;
        total += piece.len();
        if total > DRAINED_BYTES.max(limit) {
            break;
        }
        if is_too_long || total > limit {
            kept = Vec::new();
        } else {
            kept.extend_from_slice(&piece);
        }
    }
    if total > limit {
        return Err(too_large());
    }
    Ok(kept.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_recognized_with_parameters_and_in_any_case() {
        let accepted = |value: &'static str| {
            is_json(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(value),
            )]))
        };
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON ;x=y",
        ] {
            assert!(accepted(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "text/plain; application/json",
        ] {
            assert!(!accepted(bad), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
