//! Which pages of a browser may call the API (CORS).
//!
//! Off, a browser lets no page of another origin read an answer, or send a program at all. On, it may be called from
//! the listed origins, with a credential that the page holds: cookies are no way to identify anybody here, so none
//! are asked for.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::events;

/// For how long a browser may remember a permission. Chrome's own bound is two hours.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What a page may send beside what every page may.
const SENT: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    events::LAST_EVENT_ID,
    HeaderName::from_static("traceparent"),
];

/// What a page may read of an answer beside its body.
const TOLD: [HeaderName; 10] = [
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("idempotent-replayed"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("server-timing"),
];

/// Origins whose pages may call the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All there are.
    Any,
    /// These, which may be none.
    Only(Vec<HeaderValue>),
}

/// Reads a setting: `*`, or origins as browsers write them, separated by commas.
///
/// # Errors
/// A sentence that names what is no origin.
pub fn origins(text: &str) -> Result<Origins, String> {
    if text.trim() == "*" {
        return Ok(Origins::Any);
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(origin).collect::<Result<_, _>>().map(Origins::Only)
}

/// Origins are compared letter by letter, so that what no browser sends would never match.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let refusal = || {
        format!(
            "{text} is no origin: it must be such as https://app.example.com, in lower case, without a path"
        )
    };
    let uri: Uri = text.parse().map_err(|_| refusal())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(refusal());
    };
    let default_port = if scheme == "https" { 443 } else { 80 };
    let is_canonical = matches!(scheme, "http" | "https")
        && !authority.host().is_empty()
        && text == format!("{scheme}://{authority}").to_ascii_lowercase()
        && !authority.as_str().contains(['@', '*'])
        && authority.port_u16() != Some(default_port);
    if !is_canonical {
        return Err(refusal());
    }
    HeaderValue::from_str(text).map_err(|_| refusal())
}

/// What answers a browser's questions, and tells it who may read; nothing where nobody may. It belongs outside of
/// what identifies callers: a browser asks beforehand without any credential.
#[must_use]
pub fn layer(origins: &Origins) -> Option<CorsLayer> {
    let allowed = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(origins) if origins.is_empty() => return None,
        Origins::Only(origins) => AllowOrigin::list(origins.clone()),
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(SENT)
        .expose_headers(TOLD)
        .max_age(REMEMBERED);
    Some(layer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn origins_are_all_some_or_none() {
        assert_eq!(origins(" * "), Ok(Origins::Any));
        assert_eq!(origins(""), Ok(Origins::Only(Vec::new())));
        let listed = origins("https://app.example.com, http://localhost:3000,http://[::1]:8080").unwrap();
        let Origins::Only(listed) = listed else {
            panic!("{listed:?}")
        };
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[1], "http://localhost:3000");
    }

    #[test]
    fn what_no_browser_sends_as_an_origin_is_refused_by_name() {
        for wrong in [
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/page",
            "https://App.example.com",
            "https://*.example.com",
            "https://user@example.com",
            "https://app.example.com:443",
            "ftp://example.com",
            "null",
            "https://",
        ] {
            let error = origins(&format!("https://good.example.com,{wrong}")).unwrap_err();
            assert!(error.contains(wrong), "{wrong}: {error}");
        }
        assert!(origins("*,https://app.example.com").is_err());
    }
}
