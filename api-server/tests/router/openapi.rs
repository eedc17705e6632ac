//! The API's description, and the page that shows it.

use std::collections::BTreeSet;
use std::fs;

use codeexec_api::http::docs::{ASSET_PATH, Docs, PAGE_PATH};
use codeexec_api::openapi::{self, Credential};

use super::*;

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

fn described() -> Server {
    server_showing(Some(Arc::new(Docs::new(Credential::Required))))
}

fn server_showing(docs: Option<Arc<Docs>>) -> Server {
    let mut server = good();
    server.app.docs = docs;
    server.router = routed(&server.app);
    server
}

async fn get(server: &Server, path: &str) -> (u16, axum::http::HeaderMap, String) {
    let request = request("GET", path, "application/json", "");
    let response = server.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The paths that a router serves. It tells them only to who debugs it.
fn paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let (_, known) = text.split_once("paths: {").unwrap();
    let (known, _) = known.split_once("}, ").unwrap();
    known.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `GET /api/execute` and the like, of every path that programs use.
async fn served(server: &Server) -> BTreeSet<String> {
    let mut served = BTreeSet::new();
    for path in paths(&server.app.clone().router()) {
        if !path.starts_with("/api") || [PAGE_PATH, ASSET_PATH].contains(&path.as_str()) {
            continue;
        }
        for method in METHODS {
            let request = request(method, &path.replace("{id}", "cex-1"), "application/json", "");
            let answer = server.send(request).await;
            if answer.status != 405 {
                served.insert(format!("{method} {path}"));
            }
        }
    }
    served
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_served() {
    let document = openapi::document(Credential::Required);
    let mut told = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            told.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert!(told.contains("DELETE /api/executions/{id}"), "{told:?}");
    assert_eq!(served(&described()).await, told);
}

#[test]
fn the_committed_document_is_the_one_that_the_code_generates() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let committed = fs::read_to_string(path).unwrap();
    assert!(
        committed == openapi::file(),
        "docs/openapi.json has drifted: `make generate` writes it"
    );
}

#[test]
fn the_document_says_who_needs_a_credential() {
    for (credential, requirement) in [
        (Credential::Required, json!([{"bearer": []}])),
        (Credential::Optional, json!([{"bearer": []}, {}])),
        (Credential::Unwanted, json!([])),
    ] {
        let document = openapi::document(credential);
        assert_eq!(document["security"], requirement);
        // Whoever only asks whether it is up, or for the document, never needs one.
        for path in ["/api/execute", "/api/openapi.json"] {
            assert_eq!(document["paths"][path]["get"]["security"], json!([]));
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_code_is_told() {
    let document = openapi::document(Credential::Required);
    let text = document.to_string();
    for piece in text.split(r##""$ref":"#"##).skip(1) {
        let (pointer, _) = piece.split_once('"').unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    // Only these belong to no operation below /api.
    let apart = ["not_ready", "method_not_allowed"];
    for code in codeexec_api::http::codes::CODES {
        let is_told = text.contains(&format!("`{}`: ", code.word));
        assert_eq!(is_told, !apart.contains(&code.word), "{}", code.word);
    }
}

#[tokio::test]
async fn the_page_is_made_of_our_own_files_only_and_may_load_no_others() {
    let server = described();
    let (status, headers, page) = get(&server, "/api/docs").await;
    assert_eq!(status, 200);
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    assert!(!page.contains("//"), "{page}");
    for (name, kind) in [
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("start.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
    ] {
        assert!(page.contains(&format!("\"docs/{name}\"")), "{name}");
        let (status, headers, content) = get(&server, &format!("/api/docs/{name}")).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, kind));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(content.len() > 10, "{name}");
    }
    for missing in [
        "/api/docs/swagger-ui-bundle.js.map",
        "/api/docs/other.js",
        "/api/docs/%FF",
    ] {
        assert_eq!(get(&server, missing).await.0, 404, "{missing}");
    }
}

#[tokio::test]
async fn switched_off_nothing_of_it_is_served() {
    let server = server_showing(None);
    for path in ["/api/openapi.json", "/api/docs", "/api/docs/start.js"] {
        let answer = server.send(request("GET", path, "application/json", "")).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (404, &json!("not_found")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_document_is_for_everybody_and_is_that_of_the_server() {
    let (status, headers, document) = get(&described(), "/api/openapi.json").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (200, "application/json")
    );
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document, openapi::document(Credential::Required));
    assert_eq!(document["openapi"], "3.1.0");
}
