//! From a request to an execution that is under way: read, checked, counted, handed to the backend.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use codeexec_crds::CodeExecutionSpec;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::failure;
use super::body;
use super::error::ApiError;
use super::idempotency::{IdempotencyKey, REPLAYED};
use super::log::Noted;
use super::policy::{self, Warnings};
use super::rate;
use super::receive::{Bounds, Received, receive};
use crate::app::App;
use crate::auth::Identity;
use crate::backend::{BackendError, Job, Keep, Started, new_id};
use crate::limits::Refusal;

/// An execution that is under way, or was before.
pub struct Submission {
    /// Its name.
    pub id: String,
    /// What comes of it.
    pub started: Started,
    /// What the answer says of it, whatever its status.
    pub headers: HeaderMap,
    /// What the policy would not allow in it.
    pub warnings: Warnings,
}

/// Takes a request's program on. With an Idempotency-Key it runs to its end whether or not anybody waits, or the
/// retry that the key is for would find it cancelled.
///
/// # Errors
/// The answer to a request that runs nothing.
pub async fn submit(
    app: &App,
    identity: &Identity,
    noted: &Noted,
    headers: &HeaderMap,
    body: Body,
    keep: Keep,
) -> Result<Submission, Response> {
    // Held until the backend has the program.
    let (spec, warnings, _taken) = request(app, identity, noted, headers, body)
        .await
        .map_err(ApiError::into_response)?;
    // After the body: a connection that closes before it was read shows many clients no answer.
    let key = IdempotencyKey::of(headers).map_err(ApiError::into_response)?;
    let id = key
        .as_ref()
        .map_or_else(new_id, |key| key.execution_id(&identity.user));
    // Whoever does not wait for the answer may want to see what comes before it.
    let live = keep == Keep::ToItsEnd;
    let keep = if key.is_some() { Keep::ToItsEnd } else { keep };
    let job = Job {
        id: id.clone(),
        spec,
        live,
    };
    let failed = |error: &BackendError| failure(&id, error).into_response();
    let admission = match app.limits.admit(&identity.user, &id, identity.limits).await {
        Ok(admission) => admission,
        Err(refusal) if key.is_some() => return retry(app, job, refusal, noted, warnings).await,
        Err(refusal) => return Err(rate::refused(refusal)),
    };
    noted.execution(&id);
    let started = match app.backend.start(job, keep).await {
        Ok(started) => started,
        Err(error) => {
            admission.refused();
            return Err(failed(&error));
        }
    };
    let mut told = HeaderMap::new();
    if started.is_new {
        warnings.log(&id);
        if let Some(standing) = admission.accepted() {
            rate::tell(standing, &mut told);
        }
    } else {
        admission.refused();
        told.extend([REPLAYED]);
    }
    Ok(Submission {
        id,
        started,
        headers: told,
        warnings,
    })
}

/// A retry begins nothing, so that no limit is in its way.
async fn retry(
    app: &App,
    job: Job,
    refusal: Refusal,
    noted: &Noted,
    warnings: Warnings,
) -> Result<Submission, Response> {
    let id = job.id.clone();
    match app.backend.rejoin(job).await {
        Ok(Some(started)) => {
            noted.execution(&id);
            Ok(Submission {
                id,
                started,
                headers: HeaderMap::from_iter([REPLAYED]),
                warnings,
            })
        }
        Ok(None) => Err(rate::refused(refusal)),
        Err(error) => Err(failure(&id, &error).into_response()),
    }
}

async fn request(
    app: &App,
    identity: &Identity,
    noted: &Noted,
    headers: &HeaderMap,
    body: Body,
) -> Result<(CodeExecutionSpec, Warnings, Option<OwnedSemaphorePermit>), ApiError> {
    if !is_json(headers) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Content-Type must be application/json",
        ));
    }
    let bounds = Bounds {
        bytes: app.http.body_limit_bytes as usize,
        patience: app.http.body_timeout(),
    };
    let Received { bytes, taken } = receive(headers, body, bounds, &app.room).await?;
    let mut spec = body::parse(&bytes).map_err(|error| ApiError::invalid(error.to_string()))?;
    noted.code(&spec.code);
    spec.user.clone_from(&identity.user);
    codeexec_execution::validate(&spec).map_err(|violation| ApiError::invalid(violation.to_string()))?;
    let warnings = policy::screen(app.policy, &spec.code)?;
    noted.warnings(&warnings);
    Ok((spec, warnings, taken))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.map(|value| value.split(';').next().unwrap_or_default().trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
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
