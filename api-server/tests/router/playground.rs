//! The page at `/`.

use axum::http::HeaderMap;

use super::*;

const FILES: [(&str, &str); 3] = [
    ("/playground.js", "text/javascript; charset=utf-8"),
    ("/playground.css", "text/css; charset=utf-8"),
    ("/licenses.md", "text/plain; charset=utf-8"),
];

fn with_playground() -> Server {
    let mut server = good();
    server.app.playground = true;
    server.router = routed(&server.app);
    server
}

/// Status, headers and bytes of what is at a path.
async fn get(server: &Server, path: &str, asked: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().uri(path);
    for (name, value) in asked {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, headers, body.to_vec())
}

fn nonce(headers: &HeaderMap) -> String {
    let policy = headers["content-security-policy"].to_str().unwrap();
    let (_, rest) = policy.split_once("style-src 'self' 'nonce-").unwrap();
    rest.split_once('\'').unwrap().0.to_owned()
}

#[tokio::test]
async fn the_page_is_there_without_a_credential_and_may_load_only_what_is_ours() {
    let server = with_playground();
    let (status, headers, page) = get(&server, "/", &[]).await;
    let page = String::from_utf8(page).unwrap();
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let policy = headers["content-security-policy"].to_str().unwrap();
    let expected = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{}'; img-src 'self' data: blob:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        nonce(&headers)
    );
    assert_eq!(policy, expected);
    for (path, kind) in FILES {
        assert!(page.contains(&format!("\".{path}\"")), "{path}: {page}");
        let (status, headers, content) = get(&server, path, &[]).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, kind));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(!headers.contains_key("content-encoding"));
        assert!(content.len() > 100, "{path}");
    }
    // Nothing of another origin, and nothing inline: a script without a source would not run.
    assert!(!page.contains("//"), "{page}");
    assert_eq!(page.matches("<script").count(), page.matches(" src=\"./").count());
    assert!(!page.contains("<style") && !page.contains(" style="), "{page}");
    let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
    assert!(!page.split_whitespace().any(is_handler), "{page}");
}

#[tokio::test]
async fn each_answer_has_a_nonce_of_its_own_which_the_page_knows() {
    let server = with_playground();
    let mut nonces = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let (_, headers, page) = get(&server, "/", &[]).await;
        let nonce = nonce(&headers);
        assert_eq!(nonce.len(), 22, "{nonce}: 128 bits");
        let page = String::from_utf8(page).unwrap();
        assert!(
            page.contains(&format!("nonce=\"{nonce}\"")) && !page.contains("__NONCE__"),
            "{page}"
        );
        nonces.insert(nonce);
    }
    assert_eq!(nonces.len(), 3);
}

#[tokio::test]
async fn it_leads_to_the_description_only_where_that_is_served() {
    use codeexec_api::http::docs::Docs;
    use codeexec_api::openapi::Credential;

    let mut server = with_playground();
    for (docs, told) in [
        (None, "data-api-docs=\"off\""),
        (
            Some(Arc::new(Docs::new(Credential::Required))),
            "data-api-docs=\"on\"",
        ),
    ] {
        server.app.docs = docs;
        server.router = routed(&server.app);
        let (_, _, page) = get(&server, "/", &[]).await;
        assert!(String::from_utf8(page).unwrap().contains(told), "{told}");
    }
}

#[tokio::test]
async fn files_are_packed_for_who_takes_that_and_not_sent_to_who_has_them() {
    let server = with_playground();
    for (path, _) in FILES {
        let (_, _, content) = get(&server, path, &[]).await;
        let (status, headers, packed) = get(&server, path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(
            (status, headers["content-encoding"].to_str().unwrap()),
            (200, "gzip")
        );
        assert_eq!(headers["vary"], "accept-encoding");
        let mut unpacked = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(&packed[..]);
        std::io::Read::read_to_end(&mut reader, &mut unpacked).unwrap();
        assert!(unpacked == content, "{path}");
        let tag = headers["etag"].to_str().unwrap();
        for known in [tag, "*", &format!("\"another\", {tag}")] {
            let (status, headers, body) = get(&server, path, &[("if-none-match", known)]).await;
            assert_eq!((status, body.len()), (304, 0), "{known}");
            assert_eq!(headers["etag"], tag);
        }
        let (status, _, _) = get(&server, path, &[("if-none-match", "\"another\"")]).await;
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn switched_off_its_paths_lead_nowhere() {
    let server = good();
    for path in ["/", "/playground.js", "/playground.css", "/licenses.md"] {
        let answer = server.send(request("GET", path, "text/html", "")).await;
        let told = (answer.status, &answer.body["code"]);
        assert_eq!(told, (404, &json!("not_found")), "{path}");
    }
}

#[tokio::test]
async fn other_paths_still_lead_nowhere_and_other_methods_are_refused() {
    let server = with_playground();
    for (method, path, status, code) in [
        ("GET", "/index.html", 404, "not_found"),
        ("GET", "/playground.js.map", 404, "not_found"),
        ("GET", "//", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
    ] {
        let answer = server.send(request(method, path, "application/json", "")).await;
        let told = (answer.status, &answer.body["code"]);
        assert_eq!(told, (status, &json!(code)), "{method} {path}");
    }
}
