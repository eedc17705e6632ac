//! `/`: the playground, a page to write a program on and to run it. It is built from `web/playground` beforehand, and
//! everything of it is in the binary.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::app::App;

/// Where the page is.
pub const PAGE_PATH: &str = "/";

/// Where the page's script is. Pages name both files relatively, so that they are found below a proxy's prefix, too.
pub const SCRIPT_PATH: &str = "/playground.js";

/// Where the page's styles are.
pub const STYLE_PATH: &str = "/playground.css";

/// Where the licences are of what others wrote of the script.
pub const LICENSES_PATH: &str = "/licenses.md";

const PAGE: &str = include_str!("playground/index.html");
static SCRIPT: LazyLock<File> = LazyLock::new(|| {
    let content = include_bytes!("playground/playground.js");
    File::new("text/javascript; charset=utf-8", content)
});
static STYLE: LazyLock<File> = LazyLock::new(|| {
    let content = include_bytes!("playground/playground.css");
    File::new("text/css; charset=utf-8", content)
});
static LICENSES: LazyLock<File> = LazyLock::new(|| {
    // Browsers show Markdown only under this name.
    let content = include_bytes!("playground/licenses.md");
    File::new("text/plain; charset=utf-8", content)
});

/// What each answer puts in these places of the page.
const NONCE: &str = "__NONCE__";
const API_DOCS: &str = "__API_DOCS__";

/// Its routes. None of them asks who calls: what they answer is the same for everybody, and holds no secret.
pub fn routes() -> Router<App> {
    Router::new()
        .route(PAGE_PATH, get(page))
        .route(SCRIPT_PATH, get(|headers: HeaderMap| file(&SCRIPT, headers)))
        .route(STYLE_PATH, get(|headers: HeaderMap| file(&STYLE, headers)))
        .route(LICENSES_PATH, get(|headers: HeaderMap| file(&LICENSES, headers)))
}

/// What runs and is loaded is ours. The editor writes its own styles into the page, under a nonce that nobody can
/// foresee; pictures that a program made are `data:` or `blob:`.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// `GET /`. Not to be kept, for the nonce must be another one each time.
async fn page(State(app): State<App>) -> Response {
    let random: [u8; 16] = rand::random();
    let nonce = URL_SAFE_NO_PAD.encode(random);
    let docs = if app.docs.is_some() { "on" } else { "off" };
    let page = PAGE.replace(NONCE, &nonce).replace(API_DOCS, docs);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy(&nonce)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, CAREFUL, page).into_response()
}

/// A file of the page: whole, packed, or nothing where the browser has it already.
async fn file(file: &'static File, asked: HeaderMap) -> Response {
    let headers = [
        (header::ETAG, file.tag.clone()),
        // Another version of the server has other ones; the tag says whether it is another version.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    let known = list(&asked, header::IF_NONE_MATCH).any(|tag| tag == "*" || file.tag == tag);
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let kind = [(header::CONTENT_TYPE, file.kind)];
    if takes_gzip(&asked) {
        let packed = [(header::CONTENT_ENCODING, "gzip")];
        return (headers, CAREFUL, kind, packed, Body::from(file.packed.clone())).into_response();
    }
    (headers, CAREFUL, kind, Body::from(file.content)).into_response()
}

const CAREFUL: [(HeaderName, &str); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// A file of the page. It is packed once: packing takes longer than everything else that an answer needs.
struct File {
    kind: &'static str,
    content: &'static [u8],
    packed: Bytes,
    /// Weak, for it stands for both forms.
    tag: HeaderValue,
}

impl File {
    fn new(kind: &'static str, content: &'static [u8]) -> Self {
        let digest = Sha256::digest(content);
        let tag = format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..12]));
        #[allow(clippy::expect_used)] // that alphabet is fit for a header
        let tag = HeaderValue::try_from(tag).expect("base64 is ASCII");
        Self {
            kind,
            content,
            packed: pack(content),
            tag,
        }
    }
}

fn pack(content: &[u8]) -> Bytes {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packer.write_all(content).and_then(|()| packer.finish());
    #[allow(clippy::expect_used)] // a vector takes everything
    packed.expect("memory was written to").into()
}

/// The values of a header that is a list, without the space around them.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    let lines = lines.filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    list(headers, header::ACCEPT_ENCODING).any(|item| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, "q=1"));
        let weight = weight.trim().strip_prefix("q=");
        let is_wanted = weight.and_then(|weight| weight.parse().ok()) != Some(0.0);
        coding.trim().eq_ignore_ascii_case("gzip") && is_wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_whoever_asks_for_it() {
        let takes = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
        };
        for yes in ["gzip", "deflate, GZIP;q=0.5", "br , gzip ;q=1.0"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "identity", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip"] {
            assert!(!takes(no), "{no}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_page_has_the_places_that_answers_fill_in() {
        assert!(PAGE.contains(NONCE) && PAGE.contains(API_DOCS));
    }
}
