//! What browsers are told: who may call, and to be careful with the answers.

use axum::http::{HeaderMap, Request};

use super::*;

const PAGE: &str = "https://app.example.com";

/// What a browser asks before a page may send a program with a key.
fn preflight(origin: &str) -> Request<Body> {
    Request::builder()
        .method("OPTIONS")
        .uri("/api/execute")
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            "authorization,content-type",
        )
        .body(Body::empty())
        .unwrap()
}

/// A program from a page. `key` is not among those that the server knows.
fn from_page(origin: &str, authorization: Option<&str>) -> Request<Body> {
    let mut request = request("POST", "/api/execute", "application/json", HELLO);
    request
        .headers_mut()
        .insert(header::ORIGIN, origin.parse().unwrap());
    if let Some(authorization) = authorization {
        let value = authorization.parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

fn allowed(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
    value.to_str().ok()
}

fn server_for_pages(origins: &str) -> Server {
    let flags = ["--rate-limit", "0", "--cors-origins", origins];
    server_with(&flags, succeeded, Ok(()))
}

#[tokio::test]
async fn no_page_may_call_unless_somebody_says_so() {
    let server = good();
    let asked = server.send(preflight(PAGE)).await;
    assert_eq!((asked.status, allowed(&asked.headers)), (405, None));
    let answer = server.send(from_page(PAGE, None)).await;
    assert_eq!((answer.status, allowed(&answer.headers)), (200, None));
}

#[tokio::test]
async fn a_listed_page_may_call_and_is_told_so_before_it_shows_who_it_is() {
    let server = server_for_pages("https://other.example.com,https://app.example.com");
    let asked = server.send(preflight(PAGE)).await;
    assert_eq!((asked.status, allowed(&asked.headers)), (200, Some(PAGE)));
    let list = |name| {
        let value = &asked.headers[name];
        value.to_str().unwrap().to_ascii_lowercase()
    };
    assert_eq!(list(header::ACCESS_CONTROL_ALLOW_METHODS), "get,post,delete");
    for name in ["authorization", "content-type", "idempotency-key"] {
        let names = list(header::ACCESS_CONTROL_ALLOW_HEADERS);
        assert!(names.split(',').any(|listed| listed == name), "{names}");
    }
    assert!(!asked.headers.contains_key("access-control-allow-credentials"));
    let answer = server.send(from_page(PAGE, None)).await;
    assert_eq!((answer.status, allowed(&answer.headers)), (200, Some(PAGE)));
    let told = answer.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS]
        .to_str()
        .unwrap();
    for name in [
        "retry-after",
        "ratelimit",
        "location",
        "server-timing",
        "idempotent-replayed",
    ] {
        assert!(told.split(',').any(|listed| listed == name), "{told:?}");
    }
    // A page has to be able to read why it was refused, too.
    let answer = server.send(from_page(PAGE, Some("Bearer nobody's"))).await;
    assert_eq!((answer.status, allowed(&answer.headers)), (401, Some(PAGE)));
}

#[tokio::test]
async fn a_page_that_is_not_listed_is_told_nothing_and_a_star_lists_all() {
    let server = server_for_pages(PAGE);
    for stranger in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "null",
    ] {
        let asked = server.send(preflight(stranger)).await;
        assert_eq!(allowed(&asked.headers), None, "{stranger}");
    }
    let asked = server_for_pages("*")
        .send(preflight("https://evil.example.com"))
        .await;
    assert_eq!(allowed(&asked.headers), Some("*"));
}

#[tokio::test]
async fn every_answer_tells_browsers_and_caches_to_be_careful() {
    let server = good();
    for request in [
        from_page(PAGE, None),
        request("POST", "/api/execute", "application/json", "{"),
        request("GET", "/no/such/path", "text/plain", ""),
        request("GET", "/healthz", "text/plain", ""),
        from_page(PAGE, Some("Bearer nobody's")),
    ] {
        let headers = server.send(request).await.headers;
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(
            headers[header::CONTENT_SECURITY_POLICY],
            "default-src 'none'; frame-ancestors 'none'"
        );
        assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
    let flags = ["--rate-limit", "0", "--hsts-seconds", "31536000"];
    let answer = server_with(&flags, succeeded, Ok(())).post(HELLO).await;
    assert_eq!(
        answer.headers[header::STRICT_TRANSPORT_SECURITY],
        "max-age=31536000"
    );
}
