//! `/api/openapi.json`, and `/api/docs`: a page to read and try the API, Swagger UI. Everything of it is in the binary.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use swagger_ui_dist::{ApiDefinition, OpenApiSource};
use tower::ServiceExt;

use super::error::ApiError;
use crate::app::{App, not_found};
use crate::openapi::{Credential, document as describe};

/// Where the description is.
pub const DOCUMENT_PATH: &str = "/api/openapi.json";

/// Where the page is.
pub const PAGE_PATH: &str = "/api/docs";

/// Where the page's own files are.
pub const ASSET_PATH: &str = "/api/docs/{file}";

/// Only what we serve ourselves runs and is asked. Swagger UI sets styles by script, which needs no leave, and shows
/// its icons as `data:` images.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Paths are relative, so that the page works below the prefix of a proxy, too.
const PAGE: &str = include_str!("docs/page.html");
const START: &str = include_str!("docs/start.js");
const STYLE: &str = include_str!("docs/style.css");

/// What the server tells of itself.
#[derive(Debug)]
pub struct Docs {
    document: Bytes,
    script: OnceLock<Bytes>,
    style: OnceLock<Bytes>,
}

impl Docs {
    /// For a server where callers identify themselves so.
    #[must_use]
    pub fn new(credential: Credential) -> Self {
        Self {
            document: describe(credential).to_string().into(),
            script: OnceLock::new(),
            style: OnceLock::new(),
        }
    }
}

fn docs(app: App) -> Result<Arc<Docs>, ApiError> {
    app.docs.ok_or_else(not_found)
}

/// `GET /api/openapi.json`.
///
/// # Errors
/// 404 where it is switched off.
pub async fn document(State(app): State<App>) -> Result<Response, ApiError> {
    let document = docs(app)?.document.clone();
    Ok(file("application/json", document))
}

/// `GET /api/docs`.
///
/// # Errors
/// 404 where it is switched off.
pub async fn page(State(app): State<App>) -> Result<Response, ApiError> {
    docs(app)?;
    Ok(file("text/html; charset=utf-8", PAGE))
}

/// The files that the page is made of.
///
/// # Errors
/// 404 where there is none of that name, or the page is switched off.
pub async fn asset(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLES: &str = "text/css; charset=utf-8";
    let docs = docs(app)?;
    let Path(name) = name.map_err(|_| not_found())?;
    match name.as_str() {
        "start.js" => Ok(file(SCRIPT, START)),
        "style.css" => Ok(file(STYLES, STYLE)),
        "swagger-ui-bundle.js" => Ok(file(SCRIPT, packaged(&docs.script, &name).await?)),
        "swagger-ui.css" => Ok(file(STYLES, packaged(&docs.style, &name).await?)),
        _ => Err(not_found()),
    }
}

/// A file of Swagger UI. Its crate hands its files out as the answers of a router only; they are static, so that keeping
/// one takes no memory.
async fn packaged(kept: &OnceLock<Bytes>, name: &str) -> Result<Bytes, ApiError> {
    if let Some(bytes) = kept.get() {
        return Ok(bytes.clone());
    }
    let router = swagger_ui_dist::generate_routes(ApiDefinition {
        uri_prefix: "/ui",
        api_definition: OpenApiSource::Uri(""),
        title: None,
    });
    let request = Request::builder().uri(format!("/ui/{name}")).body(Body::empty());
    let response = router.oneshot(request.map_err(|_| not_found())?).await;
    let Ok(response) = response;
    if !response.status().is_success() {
        return Err(not_found());
    }
    let bytes = to_bytes(response.into_body(), usize::MAX)
        .await
        .map_err(|_| ApiError::internal())?;
    Ok(kept.get_or_init(|| bytes).clone())
}

fn file(kind: &'static str, content: impl Into<Body>) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the server has other ones.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    ([(header::CONTENT_TYPE, kind)], HEADERS, content.into()).into_response()
}
