//! The one shape of every answer that is not a result: `{"error": "...", "code": "..."}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use codeexec_crds::Reason;
use schemars::JsonSchema;
use serde::Serialize;

use super::codes;
use super::measure::ErrorCode;

/// An answer that tells what went wrong, for people (`error`) and for programs (`code`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The answer's status.
    pub status: StatusCode,
    /// A word for programs, which never changes.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The execution that it is about, where there is one.
    pub id: Option<String>,
    /// Why that execution did not run.
    pub reason: Option<Reason>,
    /// After how many seconds the same request may do better.
    pub retry_after: Option<u32>,
}

/// What went wrong.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody<'a> {
    /// A sentence for people.
    error: &'a str,
    /// A word for programs, which never changes.
    code: &'a str,
    /// The execution that it is about, where there is a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// Why that execution did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

impl ApiError {
    /// An error with nothing but its status, word and sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            id: None,
            reason: None,
            retry_after: None,
        }
    }

    /// 400: the request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 500: a defect of ours, of which the client is told nothing more.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal server error",
        )
    }

    /// 503: the platform could not serve a good request; the same one may succeed in `retry_after` seconds.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }
}

impl<'a> From<&'a ApiError> for ErrorBody<'a> {
    fn from(error: &'a ApiError) -> Self {
        Self {
            error: &error.message,
            code: error.code,
            id: error.id.as_deref(),
            reason: error.reason,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        debug_assert!(
            codes::find(self.status.as_u16(), self.code).is_some(),
            "http/codes.rs has no {} {}",
            self.status,
            self.code
        );
        let mut response = (self.status, Json(ErrorBody::from(&self))).into_response();
        response.extensions_mut().insert(ErrorCode(self.code));
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
