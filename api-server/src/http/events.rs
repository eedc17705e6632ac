//! `GET /api/executions/{id}/events`: an execution as it goes on, as server-sent events.
//!
//! Each piece of output has its number as the event's id, which a client that comes back sends as `Last-Event-ID`.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use codeexec_crds::CodeExecutionStatus;
use codeexec_runner::frames::Stream;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

use super::answer::{executed, failure};
use super::error::{ApiError, ErrorBody};
use super::executions::{find, named};
use super::streams::Listener;
use crate::app::App;
use crate::auth::Identity;
use crate::backend::{BackendError, End, Progress};

/// How often something is sent where nothing happens: load balancers close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pieces of output that wait for a client which reads slowly. What comes after waits where it comes from.
const WAITING: usize = 16;

/// Sent by a client that comes back; the name is of the standard.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// nginx gathers answers before it passes them on, unless it is told not to.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// It waits.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "QueuedEvent")]
pub(crate) struct Queued<'a> {
    /// Name of the execution.
    id: &'a str,
    /// How many wait before it, and itself, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<i32>,
}

/// Its program runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StartedEvent")]
pub(crate) struct Started<'a> {
    /// Name of the execution.
    id: &'a str,
    /// Since when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
}

/// Its program printed something.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OutputEvent")]
pub(crate) struct Printed<'a> {
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// What it printed, in whole characters.
    data: &'a str,
}

/// Follows an execution to its end.
///
/// # Errors
/// 400 for a `Last-Event-ID` that is no number, 404 where there is no such execution, or it is another's, 503 where too
/// many are followed.
pub async fn events(
    State(app): State<App>,
    Extension(caller): Extension<Identity>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let next_seq = next_seq(&headers)?;
    let execution = find(&app, &caller, &named(id)?).await?;
    let listener = app.streams.enter(&caller.user)?;
    let (progress_tx, progress_rx) = mpsc::channel(WAITING);
    let end: End = if execution.has_ended() {
        let status = execution.status;
        Box::pin(async { Ok(status) })
    } else {
        app.backend.follow(&execution.id, next_seq, progress_tx)
    };
    let followed = Followed {
        id: execution.id,
        _listener: listener,
        stage: Stage::Goes(progress_rx, end),
    };
    let events = stream::unfold(followed, Followed::next)
        .map(Ok::<_, Infallible>)
        // The client comes back, to a replica that stays.
        .take_until(app.stopping.clone().cancelled_owned());
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    response.headers_mut().extend([UNBUFFERED]);
    Ok(response)
}

/// The number of the first piece of output that the client does not have.
fn next_seq(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(last) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(0);
    };
    let number = last.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let next = number.and_then(|number| number.checked_add(1));
    next.ok_or_else(|| {
        ApiError::invalid("Last-Event-ID must be the id of an event of this execution, a number")
    })
}

/// A client that follows an execution.
struct Followed {
    id: String,
    _listener: Listener,
    stage: Stage,
}

enum Stage {
    Goes(mpsc::Receiver<Progress>, End),
    /// What was told before its end, and that.
    Ended(
        mpsc::Receiver<Progress>,
        Box<Result<CodeExecutionStatus, BackendError>>,
    ),
    Told,
}

impl Followed {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            match self.stage {
                Stage::Goes(mut progress_rx, mut end) => {
                    tokio::select! {
                        biased;
                        Some(progress) = progress_rx.recv() => {
                            self.stage = Stage::Goes(progress_rx, end);
                            return Some((of_progress(&self.id, &progress), self));
                        }
                        ended = &mut end => {
                            progress_rx.close();
                            self.stage = Stage::Ended(progress_rx, Box::new(ended));
                        }
                    }
                }
                Stage::Ended(mut progress_rx, ended) => match progress_rx.recv().await {
                    Some(progress) => {
                        self.stage = Stage::Ended(progress_rx, ended);
                        return Some((of_progress(&self.id, &progress), self));
                    }
                    None => {
                        self.stage = Stage::Told;
                        return Some((of_end(&self.id, *ended), self));
                    }
                },
                Stage::Told => return None,
            }
        }
    }
}

fn of_progress(id: &str, progress: &Progress) -> Event {
    match progress {
        Progress::Queued { position } => event(
            "queued",
            &Queued {
                id,
                queue_position: *position,
            },
        ),
        Progress::Started { at } => event("started", &Started { id, started_at: *at }),
        Progress::Printed(output) => {
            let printed = Printed {
                stream: match output.stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                },
                data: &output.data,
            };
            event("output", &printed).id(output.seq.to_string())
        }
    }
}

fn of_end(id: &str, ended: Result<CodeExecutionStatus, BackendError>) -> Event {
    let told = match ended {
        Ok(status) => executed(id, status),
        Err(error) => Err(failure(id, &error)),
    };
    match told {
        Ok(executed) => event("result", &executed),
        Err(error) => event("failed", &ErrorBody::from(&error)),
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Structs of texts and numbers: nothing that serde_json can refuse, or that has a line break in JSON.
    let event = Event::default().event(name);
    event.json_data(data).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn a_client_that_comes_back_goes_on_behind_the_last_piece_it_has() {
        let next = |value: &'static str| {
            next_seq(&HeaderMap::from_iter([(
                LAST_EVENT_ID,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(next_seq(&HeaderMap::new()), Ok(0));
        assert_eq!((next(""), next("0"), next("17")), (Ok(0), Ok(1), Ok(18)));
        for wrong in ["-1", "1.5", "x", "18446744073709551615", "99999999999999999999"] {
            let error = next(wrong).unwrap_err();
            assert!(error.message.contains("Last-Event-ID"), "{wrong}: {error:?}");
        }
    }
}
