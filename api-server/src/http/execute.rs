//! `POST /api/execute`: runs a program and answers with what came of it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};

use super::answer::{Executed, answer, failure, replayed};
use super::log::{Arrived, Noted};
use super::submit::{Submission, submit};
use crate::app::App;
use crate::auth::Identity;
use crate::backend::Keep;

/// Not among the names that the `http` crate knows.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Runs a program and answers with what came of it.
pub async fn execute(
    State(app): State<App>,
    Extension(Arrived(arrived)): Extension<Arrived>,
    Extension(noted): Extension<Noted>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Submission {
        id,
        started,
        headers: told,
        warnings,
    } = match submit(&app, &identity, &noted, &headers, body, Keep::WhileWaitedFor).await {
        Ok(submission) => submission,
        Err(response) => return response,
    };
    let result = match (started.end.await, started.is_new) {
        (Ok(status), true) => answer(&id, status, arrived.elapsed()),
        (Ok(status), false) => replayed(&id, status),
        (Err(error), _) => Err(failure(&id, &error)),
    };
    let mut response = match result {
        Ok(mut executed) => {
            executed.warnings = warnings.sentences();
            let timing = [(SERVER_TIMING, executed.server_timing())];
            (timing, Json::<Executed>(executed)).into_response()
        }
        Err(error) => error.into_response(),
    };
    response.headers_mut().extend(told);
    response
}
