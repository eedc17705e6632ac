//! How a client learns of its limits: the headers of each accepted execution, and the 429 of one that is not.
//!
//! The two fields of the IETF's draft (draft-ietf-httpapi-ratelimit-headers, since its 8th version), and the three
//! of its earlier ones, which is what most clients read.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use crate::limits::ledger::{Standing, WINDOW_MS};
use crate::limits::{Refusal, seconds};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// When it is worth asking again where the end of some execution has to be awaited, in seconds.
const UNTIL_AN_END: u32 = 2;

/// When it is worth asking again where a watch has to come up again, in seconds.
const UNTIL_COUNTING: u32 = 2;

/// Adds how a user stands.
pub fn tell(standing: Standing, headers: &mut HeaderMap) {
    let Standing {
        limit,
        remaining,
        reset_ms,
    } = standing;
    let (window, reset) = (WINDOW_MS / 1000, seconds(reset_ms));
    for (name, text) in [
        (POLICY, format!("\"executions\";q={limit};w={window}")),
        (RATE_LIMIT, format!("\"executions\";r={remaining};t={reset}")),
    ] {
        // Digits and the letters above are fit for a header.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
    headers.insert(LIMIT, HeaderValue::from(limit));
    headers.insert(REMAINING, HeaderValue::from(remaining));
    headers.insert(RESET, HeaderValue::from(reset));
}

/// The answer to an execution that may not begin.
#[must_use]
pub fn refused(refusal: Refusal) -> Response {
    let message = refusal.to_string();
    let too_many = |code, retry_after| ApiError {
        retry_after: Some(retry_after),
        ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, message.clone())
    };
    match refusal {
        Refusal::TooMany(standing) => {
            let error = too_many("rate_limited", seconds(standing.reset_ms));
            let mut response = error.into_response();
            tell(standing, response.headers_mut());
            response
        }
        Refusal::TooManyAtOnce(_) => too_many("too_many_concurrent", UNTIL_AN_END).into_response(),
        Refusal::NotCounting => {
            ApiError::unavailable("backend_unavailable", message, UNTIL_COUNTING).into_response()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_allowed_and_when_to_come_again() {
        let standing = Standing {
            limit: 10,
            remaining: 0,
            reset_ms: 11_001,
        };
        let refusal = Refusal::TooMany(standing);
        assert_eq!(
            refusal.to_string(),
            "Too many executions: 10 a minute are allowed. Try again in 12 s."
        );
        let response = refused(refusal);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("retry-after"), "12");
        assert_eq!(header("ratelimit-policy"), "\"executions\";q=10;w=60");
        assert_eq!(header("ratelimit"), "\"executions\";r=0;t=12");
        assert_eq!(header("ratelimit-limit"), "10");
        assert_eq!(header("ratelimit-remaining"), "0");
        assert_eq!(header("ratelimit-reset"), "12");
    }

    #[test]
    fn a_count_that_is_not_known_is_no_fault_of_the_client() {
        assert_eq!(
            refused(Refusal::NotCounting).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        let response = refused(Refusal::TooManyAtOnce(3));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "2");
    }
}
