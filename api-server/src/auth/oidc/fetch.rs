//! A small HTTP client for the issuer's two documents.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// How long a document may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest document that is read, in bytes. A key has about half a KiB.
const MAX_BYTES: usize = 256 * 1024;

/// Where an issuer's document is: over TLS, or on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    uri: Uri,
}

/// What is no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be an https:// URL without query (http:// only of this machine)")]
pub struct NotAUrl;

impl FromStr for Url {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        let uri: Uri = text.parse().map_err(|_| NotAUrl)?;
        let host = uri.host().ok_or(NotAUrl)?;
        let is_safe = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
            _ => false,
        };
        let has_more = uri.query().is_some()
            || uri
                .authority()
                .is_some_and(|authority| authority.as_str().contains('@'));
        if !is_safe || has_more || text.contains('#') {
            return Err(NotAUrl);
        }
        Ok(Self {
            text: text.to_owned(),
            uri,
        })
    }
}

impl Url {
    /// As it was written; issuers are compared letter by letter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A place below it.
    ///
    /// # Errors
    /// When the two together are no URL.
    pub fn below(&self, path: &str) -> Result<Self, NotAUrl> {
        format!("{}/{path}", self.text.trim_end_matches('/')).parse()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file with the authorities.
    #[error("--oidc-ca-file: {0}")]
    Authorities(String),
    /// It took too long.
    #[error("{0} did not answer in time")]
    Deadline(String),
    /// No connection, or it broke.
    #[error("failed to get {0}: {1}")]
    Connection(String, String),
    /// Not 200. Redirections are not followed.
    #[error("{0} answered {1}")]
    Status(String, StatusCode),
    /// Not what it must be.
    #[error("{0} is not what it must be: {1}")]
    Content(String, String),
}

/// The client.
#[derive(Clone, Debug)]
pub struct Fetcher(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Fetcher {
    /// Trusts the authorities in this file, or Mozilla's list.
    ///
    /// # Errors
    /// When the file holds no certificates.
    pub fn new(authorities: Option<&Path>) -> Result<Self, FetchError> {
        let provider = rustls::crypto::ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Authorities(error.to_string()))?
            .with_root_certificates(roots(authorities)?)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            // Which of the two is allowed where, the URL's type sees to.
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, FetchError> {
        let answer = timeout(PATIENCE, self.bytes(url)).await;
        let bytes = answer.map_err(|_| FetchError::Deadline(url.to_string()))??;
        serde_json::from_slice(&bytes)
            .map_err(|error| FetchError::Content(url.to_string(), error.to_string()))
    }

    async fn bytes(&self, url: &Url) -> Result<Bytes, FetchError> {
        let broken = |error: String| FetchError::Connection(url.to_string(), error);
        let response = self.0.get(url.uri.clone()).await;
        let response = response.map_err(|error| broken(with_causes(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(url.to_string(), response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        Ok(body.map_err(|error| broken(error.to_string()))?.to_bytes())
    }
}

/// An error with what caused it: the client's own sentence says only that it could not connect.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, FetchError> {
    let Some(path) = file else {
        return Ok(RootCertStore::from_iter(
            webpki_roots::TLS_SERVER_ROOTS.iter().cloned(),
        ));
    };
    let failed = |error: String| FetchError::Authorities(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("it holds no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn documents_come_over_tls_or_from_this_machine() {
        for good in [
            "https://login.example.com/realms/a/",
            "https://login.example.com:8443",
            "http://127.0.0.1:8080/x",
            "http://localhost",
        ] {
            assert_eq!(good.parse::<Url>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "login.example.com",
            "http://login.example.com",
            "http://localhost.example.com",
            "ftp://login.example.com",
            "https://user:pass@login.example.com",
            "https://login.example.com/?a=b",
            "https://login.example.com/#a",
            "https://",
        ] {
            assert_eq!(bad.parse::<Url>(), Err(NotAUrl), "{bad}");
        }
    }

    #[test]
    fn a_place_below_has_one_slash() {
        for issuer in ["https://a.example/b", "https://a.example/b/"] {
            let url = issuer.parse::<Url>().unwrap().below(".well-known/x").unwrap();
            assert_eq!(url.as_str(), "https://a.example/b/.well-known/x");
        }
    }

    #[test]
    fn a_file_without_authorities_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let error = Fetcher::new(Some(&path)).unwrap_err().to_string();
        assert!(
            error.starts_with("--oidc-ca-file: ") && error.contains("ca.pem"),
            "{error}"
        );
    }
}
