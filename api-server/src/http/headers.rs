//! Headers of every answer that tell browsers and caches to be careful with it.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use tower_http::set_header::SetResponseHeaderLayer;

/// Adds them where a handler has not set its own. Without a number of seconds browsers may come by HTTP, too.
pub fn careful<S>(router: Router<S>, hsts_seconds: u32) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    // An answer may be somebody's result.
    let router = with(
        router,
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    // What a program printed must not become a page or a script because it looks like one.
    let router = with(
        router,
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    let router = with(router, header::CONTENT_SECURITY_POLICY, nothing);
    if hsts_seconds == 0 {
        return router;
    }
    // Digits are fit for a header.
    match HeaderValue::try_from(format!("max-age={hsts_seconds}")) {
        Ok(value) => with(router, header::STRICT_TRANSPORT_SECURITY, value),
        Err(_) => router,
    }
}

fn with<S>(router: Router<S>, name: HeaderName, value: HeaderValue) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.layer(SetResponseHeaderLayer::if_not_present(name, value))
}
