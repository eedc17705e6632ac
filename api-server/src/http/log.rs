//! One audit line for each request, whatever becomes of it. Its fields are described in docs/audit.md.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use codeexec_audit::{Request as Audited, Text};

use super::measure::ErrorCode;
use super::policy::Warnings;
use crate::app::App;
use crate::auth::api_keys::PREFIX;
use crate::auth::{Identity, Via};

/// When a request came; the answer's `executionTime` counts from it.
#[derive(Clone, Copy, Debug)]
pub struct Arrived(pub Instant);

/// Where it is noted for the line what becomes known of a request, as soon as it is: a client that hangs up never
/// gets an answer that could carry it. A request has one of each at most.
#[derive(Clone, Debug, Default)]
pub struct Noted(Arc<Notes>);

#[derive(Debug, Default)]
struct Notes {
    caller: OnceLock<(String, Via)>,
    execution: OnceLock<String>,
    code_sha256: OnceLock<String>,
    policy_warnings: OnceLock<String>,
}

impl Noted {
    /// Notes who asks.
    pub fn caller(&self, identity: &Identity) {
        let _ = self.0.caller.set((identity.user.clone(), identity.via));
    }

    /// Notes the execution's name.
    pub fn execution(&self, id: &str) {
        let _ = self.0.execution.set(id.to_owned());
    }

    /// Notes the program by its hash.
    pub fn code(&self, code: &str) {
        let _ = self.0.code_sha256.set(codeexec_execution::code_sha256(code));
    }

    /// Notes what the policy would not allow in it.
    pub fn warnings(&self, warnings: &Warnings) {
        if let Some(constructs) = warnings.constructs() {
            let _ = self.0.policy_warnings.set(constructs);
        }
    }
}

/// What nginx made the usual number for a client that did not wait for the answer.
pub const CLIENT_CLOSED: u16 = 499;

/// What keys of ours, and tokens in JSON (`{"` in base64), begin with.
const BEGINNINGS_OF_SECRETS: [&str; 2] = [PREFIX, "eyJ"];

/// What stands for a segment of a path that may be a secret.
const REDACTED: &str = "REDACTED";

/// The middleware that writes the line.
pub async fn requests(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let arrived = Instant::now();
    let mut line = Line {
        peer: peer.ip(),
        client: app.auth.client(peer.ip(), request.headers()),
        method: request.method().as_str().into(),
        path: path(request.uri().path()),
        status: CLIENT_CLOSED,
        error_code: None,
        arrived,
        noted: Noted::default(),
    };
    request.extensions_mut().insert(Arrived(arrived));
    request.extensions_mut().insert(line.noted.clone());
    let response = next.run(request).await;
    line.status = response.status().as_u16();
    line.error_code = response.extensions().get().map(|ErrorCode(code)| *code);
    response
}

/// The path as it may be written down: somebody may have pasted a credential into it.
fn path(path: &str) -> String {
    let is_secret = |segment: &str| BEGINNINGS_OF_SECRETS.iter().any(|begin| segment.contains(begin));
    if !is_secret(path) {
        return path.to_owned();
    }
    let segments = path.split('/');
    let shown: Vec<&str> = segments
        .map(|segment| if is_secret(segment) { REDACTED } else { segment })
        .collect();
    shown.join("/")
}

/// Written when dropped: a client that hangs up drops the whole future, and its request belongs in the trail
/// too.
struct Line {
    peer: IpAddr,
    client: IpAddr,
    method: Text,
    path: String,
    status: u16,
    error_code: Option<&'static str>,
    arrived: Instant,
    noted: Noted,
}

impl Drop for Line {
    fn drop(&mut self) {
        // Probes come every few seconds and say nothing as long as they go well.
        if matches!(self.path.as_str(), "/healthz" | "/readyz") && self.status == 200 {
            return;
        }
        let peer = self.peer.to_canonical();
        let notes = &self.noted.0;
        let text = |text: &OnceLock<String>| text.get().map(|text| text.as_str().into());
        let line = Audited {
            peer,
            client: Some(self.client).filter(|client| *client != peer),
            user: notes.caller.get().map(|(user, _)| user.as_str().into()),
            via: notes.caller.get().map(|(_, via)| via.name()),
            method: self.method.clone(),
            path: self.path.as_str().into(),
            status: self.status,
            error_code: self.error_code,
            execution: text(&notes.execution),
            code_sha256: text(&notes.code_sha256),
            policy_warnings: text(&notes.policy_warnings),
            ms: u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        line.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_in_a_path_is_not_written_down() {
        for (given, shown) in [
            ("/api/execute", "/api/execute"),
            ("/api/executions/cex-0123", "/api/executions/cex-0123"),
            ("/api/cex_c2VjcmV0/x", "/api/REDACTED/x"),
            ("/token=eyJhbGciOiJub25lIn0", "/REDACTED"),
        ] {
            assert_eq!(path(given), shown);
        }
    }
}
