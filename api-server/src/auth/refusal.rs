//! Why somebody is not let in, and what they are told.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::error::ApiError;

/// Seconds after which the same request may do better.
const RETRY_AFTER: u32 = 2;

/// Why a request is not served. No text holds any part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing says who asks, and anonymous is not on.
    #[error("this request needs a credential: send Authorization: Bearer <key or token>")]
    Missing,
    /// The headers are not what they must be.
    #[error("{0}")]
    Malformed(&'static str),
    /// Nobody knows the key or the token, or it is not good any more.
    #[error("the credential is not valid: {0}")]
    Invalid(&'static str),
    /// It is known who asks, and they may not.
    #[error("{0}")]
    Forbidden(&'static str),
    /// It can't be found out at present.
    #[error("who asks can't be verified at the moment")]
    Unavailable,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = self.to_string();
        let challenge = match self {
            Self::Missing => r#"Bearer realm="codeexec""#,
            Self::Malformed(_) | Self::Invalid(_) => r#"Bearer realm="codeexec", error="invalid_token""#,
            Self::Forbidden(_) => {
                return ApiError::new(StatusCode::FORBIDDEN, "forbidden", message).into_response();
            }
            Self::Unavailable => {
                return ApiError::unavailable("auth_unavailable", message, RETRY_AFTER).into_response();
            }
        };
        let error = ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", message);
        let mut response = error.into_response();
        // RFC 9110 wants it in every 401.
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}
