//! One log line for each request: method, path, status, milliseconds, execution, who asked and how they were
//! known. Never a code, an output or a credential.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::auth::{Identity, Via};

/// When a request came; the answer's `executionTime` counts from it.
#[derive(Clone, Copy, Debug)]
pub struct Arrived(pub Instant);

/// Where a handler notes its execution for the log, as soon as there is one: a client that hangs up never
/// gets an answer that could carry it.
#[derive(Clone, Debug, Default)]
pub struct ExecutionId(Arc<OnceLock<String>>);

impl ExecutionId {
    /// Notes the execution. A request has one at most.
    pub fn set(&self, id: &str) {
        let _ = self.0.set(id.to_owned());
    }
}

/// Where the one who asks is noted for the log.
#[derive(Clone, Debug, Default)]
pub struct Caller(Arc<OnceLock<(String, Via)>>);

impl Caller {
    /// Notes them. A request has one at most.
    pub fn set(&self, identity: &Identity) {
        let _ = self.0.set((identity.user.clone(), identity.via));
    }
}

/// What nginx made the usual number for a client that did not wait for the answer.
pub const CLIENT_CLOSED: u16 = 499;

/// Longest path that is logged whole.
const MAX_PATH: usize = 256;

/// The middleware that writes the line.
pub async fn requests(mut request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let mut line = Line {
        method: request.method().to_string(),
        path: request.uri().path().chars().take(MAX_PATH).collect(),
        status: CLIENT_CLOSED,
        arrived,
        id: ExecutionId::default(),
        caller: Caller::default(),
    };
    request.extensions_mut().insert(Arrived(arrived));
    request.extensions_mut().insert(line.id.clone());
    request.extensions_mut().insert(line.caller.clone());
    let response = next.run(request).await;
    line.status = response.status().as_u16();
    response
}

/// Written when dropped: a client that hangs up drops the whole future, and its request belongs in the log
/// too.
struct Line {
    method: String,
    path: String,
    status: u16,
    arrived: Instant,
    id: ExecutionId,
    caller: Caller,
}

impl Drop for Line {
    fn drop(&mut self) {
        let ms = u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (method, path, status) = (&self.method, &self.path, self.status);
        let id = self.id.0.get();
        let caller = self.caller.0.get();
        let (user, via) = (caller.map(|(user, _)| user), caller.map(|(_, via)| via.name()));
        // Probes come every few seconds and say nothing as long as they go well.
        if matches!(path.as_str(), "/healthz" | "/readyz") && status == 200 {
            tracing::debug!(%method, %path, status, ms, id, user, via, "request");
        } else {
            tracing::info!(%method, %path, status, ms, id, user, via, "request");
        }
    }
}
