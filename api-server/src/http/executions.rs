//! `/api/executions`: to begin an execution without waiting for it, to look at it, to cancel it, to list them.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use codeexec_crds::Reason;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::{executed, unserved};
use super::error::ApiError;
use super::log::Noted;
use super::query;
use super::submit::{Submission, submit};
use crate::app::App;
use crate::auth::Identity;
use crate::backend::{Execution, Keep, Page, Stage};

/// How an execution stands.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Standing")]
pub(crate) struct Unfinished {
    /// Name of the execution.
    id: String,
    /// Where it stands.
    status: Stage,
    /// When it was taken on.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    /// When its program started.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// How many wait before it, and itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<i32>,
    /// What the policy would not allow in it; only in the answer to the request that sent it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// An execution in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListedExecution")]
struct Item {
    /// Name of the execution.
    id: String,
    /// Whose it is.
    user: String,
    /// Where it stands.
    status: Stage,
    /// The true cause of its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// When it was taken on.
    created_at: Timestamp,
}

/// A page of executions, in the order of their ids.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Executions")]
pub(crate) struct List {
    /// May be fewer than asked for, even none, and still not the last.
    items: Vec<Item>,
    /// Where the next page begins: the parameter of the same name. Absent on the last page.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `POST /api/executions`: begins one, and does not wait for its end.
pub async fn begin(
    State(app): State<App>,
    Extension(caller): Extension<Identity>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Submission {
        id,
        started,
        headers: told,
        warnings,
    } = match submit(&app, &caller, &noted, &headers, body, Keep::ToItsEnd).await {
        Ok(submission) => submission,
        Err(response) => return response,
    };
    // What runs goes on without us.
    let is_new = started.is_new;
    drop(started);
    let mut response = match stands(&app, &caller, &id, is_new).await {
        Ok(mut body) => {
            body.warnings = warnings.sentences();
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
        Err(error) => error.into_response(),
    };
    // The characters of a name are those of a path.
    if let Ok(location) = HeaderValue::try_from(format!("/api/executions/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().extend(told);
    response
}

/// How one stands that was just begun, or was found.
async fn stands(app: &App, caller: &Identity, id: &str, is_new: bool) -> Result<Unfinished, ApiError> {
    if is_new {
        return Ok(Unfinished {
            id: id.to_owned(),
            status: Stage::Queued,
            created_at: None,
            started_at: None,
            queue_position: None,
            warnings: Vec::new(),
        });
    }
    Ok(unfinished(&find(app, caller, id).await?))
}

/// `GET /api/executions/{id}`: how it stands, or what came of it.
///
/// # Errors
/// 404 where there is none, or it is another's.
pub async fn get(
    State(app): State<App>,
    Extension(caller): Extension<Identity>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let execution = find(&app, &caller, &named(id)?).await?;
    if execution.has_ended() {
        let executed = executed(&execution.id, execution.status)?;
        return Ok(Json(executed).into_response());
    }
    Ok(Json(unfinished(&execution)).into_response())
}

/// `DELETE /api/executions/{id}`: cancels it. The record stays.
///
/// # Errors
/// 404 where there is none, or it is another's.
pub async fn cancel(
    State(app): State<App>,
    Extension(caller): Extension<Identity>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = named(id)?;
    let execution = find(&app, &caller, &id).await?;
    // Cancelling what has ended changes nothing, so that a repeated or a late one does no harm.
    if execution.has_ended() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let cancelled = app.backend.cancel(&id).await;
    cancelled.map_err(|error| unserved(&error))?;
    Ok((StatusCode::ACCEPTED, Json(unfinished(&execution))).into_response())
}

/// `GET /api/executions`: those of the caller; an administrator sees everybody's.
///
/// # Errors
/// 400 for a parameter that is wrong, 403 for somebody else's.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Identity>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query = query::parse(&uri);
    let mut query = query.map_err(|error| ApiError::invalid(error.to_string()))?;
    match &query.user {
        Some(user) if !caller.may_read(user) => {
            let message = "only an administrator may list other users' executions";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        None if !caller.is_admin => query.user = Some(caller.user.clone()),
        Some(_) | None => {}
    }
    let listed = app.backend.list(query).await;
    let Page { items, next } = listed.map_err(|error| unserved(&error))?;
    let items = items.into_iter().map(|listed| Item {
        status: listed.phase.into(),
        id: listed.id,
        user: listed.user,
        reason: listed.reason,
        created_at: listed.created,
    });
    let list = List {
        items: items.collect(),
        next,
    };
    Ok(Json(list).into_response())
}

fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such execution")
}

/// The name in a path. One that is not UTF-8 is nobody's.
pub(super) fn named(id: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    id.map(|Path(id)| id).map_err(|_| not_found())
}

pub(super) async fn find(app: &App, caller: &Identity, id: &str) -> Result<Execution, ApiError> {
    // What can't be a name is not asked for.
    let may_be_name = (1..=253).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    if !may_be_name || id.contains("..") || id.starts_with('.') {
        return Err(not_found());
    }
    let found = app.backend.get(id).await;
    let found = found.map_err(|error| unserved(&error))?;
    found
        .filter(|execution| caller.may_read(&execution.user))
        .ok_or_else(not_found)
}

fn unfinished(execution: &Execution) -> Unfinished {
    Unfinished {
        id: execution.id.clone(),
        status: execution.phase().into(),
        created_at: Some(execution.created),
        started_at: execution.status.start_time.as_ref().map(|time| time.0),
        queue_position: execution.status.queue_position,
        warnings: Vec::new(),
    }
}
