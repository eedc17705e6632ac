//! From how an execution went to the HTTP answer: one table for every backend.

use std::time::Duration;

use axum::http::StatusCode;
use codeexec_crds::{CodeExecutionStatus, OutputBytes, Phase, Reason, ResultFile, Timings, Truncated, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use crate::backend::BackendError;

/// The body of a 200: a program ran, and this came of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Executed {
    /// Name of the execution.
    pub id: String,
    /// The plan's three words.
    pub status: Outcome,
    /// Its standard output.
    pub output: String,
    /// What went wrong; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From the request's arrival to its answer, in milliseconds.
    pub execution_time: u64,
    /// Its standard error.
    pub stderr: String,
    /// What it exited with; null when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The true cause of its end.
    pub reason: Reason,
    /// Whether running it again can't run it twice.
    pub retryable: bool,
    /// Whether some of what it printed or left as files was dropped.
    pub truncated: Truncated,
    /// How much it printed.
    pub output_bytes: OutputBytes,
    /// Where the time went.
    pub timings: Timings,
    /// What it used; null where nobody could measure it.
    pub usage: Option<Usage>,
    /// Files that it left in `/code/out`, and figures that it showed or left open, in the order in which it made them.
    pub files: Vec<ResultFile>,
    /// Whether its sandbox stood ready before the request came.
    pub warm: bool,
    /// What the policy would not allow, a sentence for each construct; absent where there is nothing to tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a program ended, in the plan's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It exited with 0.
    Success,
    /// It reached its timeout.
    Timeout,
    /// It ended in any other way.
    Error,
}

impl Executed {
    /// Where the time went, for a browser's developer tools (`Server-Timing`).
    #[must_use]
    pub fn server_timing(&self) -> String {
        let Timings {
            queue_ms,
            start_ms,
            claim_ms,
            run_ms,
            collect_ms,
            total_ms: _,
        } = self.timings;
        format!(
            "queue;dur={queue_ms}, start;dur={start_ms}, claim;dur={claim_ms}, run;dur={run_ms}, \
             collect;dur={collect_ms}, total;dur={}",
            self.execution_time
        )
    }
}

/// The answer to a request whose execution ended as `status` says, `elapsed` after the request came.
///
/// # Errors
/// The answer where no program ran, or where the status doesn't tell an end.
pub fn answer(id: &str, status: CodeExecutionStatus, elapsed: Duration) -> Result<Executed, ApiError> {
    match (status.phase, status.reason) {
        (Some(Phase::Failed), Some(reason)) if reason == Reason::Rejected => Err(ApiError {
            id: Some(id.to_owned()),
            reason: Some(reason),
            ..ApiError::new(StatusCode::BAD_REQUEST, "rejected", sentence(&status))
        }),
        // There is output, if only an empty one, whenever the program may have started.
        (Some(Phase::Failed), Some(reason)) if status.output.is_none() => {
            Err(did_not_run(id, reason, &status))
        }
        _ => told(id, status, elapsed),
    }
}

/// The answer to a retry, the same again. How long the execution took is what its record says.
///
/// # Errors
/// As [`answer`], but that the same request would not do better some time later.
pub fn replayed(id: &str, status: CodeExecutionStatus) -> Result<Executed, ApiError> {
    let elapsed = recorded(&status);
    answer(id, status, elapsed).map_err(|error| ApiError {
        retry_after: None,
        ..error
    })
}

/// An ended execution as it is shown to who asks for it later. One that did not run is shown like any other: the
/// request for it went well.
///
/// # Errors
/// Where the status doesn't tell an end.
pub fn executed(id: &str, status: CodeExecutionStatus) -> Result<Executed, ApiError> {
    let elapsed = recorded(&status);
    told(id, status, elapsed)
}

fn recorded(status: &CodeExecutionStatus) -> Duration {
    let total = status.timings.unwrap_or_default().total_ms;
    Duration::from_millis(u64::try_from(total).unwrap_or_default())
}

fn told(id: &str, status: CodeExecutionStatus, elapsed: Duration) -> Result<Executed, ApiError> {
    let (Some(phase), Some(reason)) = (status.phase, status.reason) else {
        return Err(failure(id, &BackendError::NoResult));
    };
    let outcome = match phase {
        Phase::Succeeded => Outcome::Success,
        Phase::TimedOut => Outcome::Timeout,
        // Cancelling is somebody's wish, not a fault of the platform, whether or not the program had started.
        Phase::Cancelled | Phase::Failed => Outcome::Error,
        Phase::Queued | Phase::Running => return Err(failure(id, &BackendError::NoResult)),
    };
    Ok(Executed {
        id: id.to_owned(),
        status: outcome,
        output: status.output.unwrap_or_default(),
        error: status.error,
        execution_time: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        stderr: status.stderr.unwrap_or_default(),
        exit_code: status.exit_code,
        signal: status.signal,
        reason,
        retryable: status.retryable.unwrap_or(false),
        truncated: status.truncated.unwrap_or_default(),
        output_bytes: status.output_bytes.unwrap_or_default(),
        timings: status.timings.unwrap_or_default(),
        usage: status.usage,
        files: status.files.unwrap_or_default(),
        warm: status.warm.unwrap_or(false),
        warnings: Vec::new(),
    })
}

fn did_not_run(id: &str, reason: Reason, status: &CodeExecutionStatus) -> ApiError {
    let (code, retry_after) = match reason {
        // What a crowd causes passes with the crowd.
        Reason::Unschedulable => ("unschedulable", 10),
        Reason::QuotaExceeded => ("quota_exceeded", 10),
        // What needs somebody's hand takes longer.
        Reason::ImagePull => ("image_pull", 30),
        Reason::IsolationUnavailable => ("isolation_unavailable", 30),
        Reason::Evicted => ("evicted", 2),
        Reason::PodDeleted => ("pod_deleted", 2),
        Reason::NodeLost => ("node_lost", 2),
        Reason::OutOfMemory => ("out_of_memory", 2),
        // The rest can't end an execution that did not run, so codeexec itself is at fault.
        Reason::InternalError
        | Reason::Completed
        | Reason::NonZeroExit
        | Reason::Signaled
        | Reason::DeadlineExceeded
        | Reason::Cancelled
        | Reason::Rejected => ("internal_error", 2),
    };
    ApiError {
        id: Some(id.to_owned()),
        reason: Some(reason),
        ..ApiError::unavailable(code, sentence(status), retry_after)
    }
}

fn sentence(status: &CodeExecutionStatus) -> String {
    let known = status.error.clone().filter(|error| !error.trim().is_empty());
    known.unwrap_or_else(|| "the program could not be run".to_owned())
}

/// The answer to a request for an execution of which the backend has no status to show.
#[must_use]
pub fn failure(id: &str, error: &BackendError) -> ApiError {
    // Only where there is a record, or was.
    let has_record = matches!(error, BackendError::Deleted | BackendError::NoResult);
    ApiError {
        id: has_record.then(|| id.to_owned()),
        ..unserved(error)
    }
}

/// The answer to a request that the backend does not serve.
#[must_use]
pub fn unserved(error: &BackendError) -> ApiError {
    let message = error.to_string();
    match error {
        BackendError::Busy { retry_after } => ApiError::unavailable("busy", message, *retry_after),
        BackendError::Unavailable => ApiError::unavailable("backend_unavailable", message, 2),
        BackendError::QuotaExceeded => ApiError {
            reason: Some(Reason::QuotaExceeded),
            ..ApiError::unavailable("quota_exceeded", message, 10)
        },
        BackendError::Refused(_) => ApiError {
            reason: Some(Reason::Rejected),
            ..ApiError::new(StatusCode::BAD_REQUEST, "rejected", message)
        },
        // No Retry-After on these two: the program may have run, and asking again runs it again.
        BackendError::Deleted => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "deleted", message),
        BackendError::NoResult => ApiError {
            reason: Some(Reason::InternalError),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_result", message)
        },
        BackendError::KeyReused => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            message,
        ),
        BackendError::ListExpired => ApiError::invalid(message),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    fn status(phase: Phase, reason: Reason, output: Option<&str>) -> CodeExecutionStatus {
        CodeExecutionStatus {
            phase: Some(phase),
            reason: Some(reason),
            output: output.map(str::to_owned),
            error: Some("why".to_owned()),
            retryable: Some(output.is_none()),
            ..CodeExecutionStatus::default()
        }
    }

    fn told(status: CodeExecutionStatus) -> Result<Executed, ApiError> {
        answer("cex-1", status, Duration::from_millis(42))
    }

    #[test]
    fn a_program_that_ran_is_a_200_in_the_plans_three_words() {
        for (phase, reason, outcome) in [
            (Phase::Succeeded, Reason::Completed, Outcome::Success),
            (Phase::TimedOut, Reason::DeadlineExceeded, Outcome::Timeout),
            (Phase::Failed, Reason::NonZeroExit, Outcome::Error),
            (Phase::Failed, Reason::Signaled, Outcome::Error),
            (Phase::Failed, Reason::OutOfMemory, Outcome::Error),
            (Phase::Failed, Reason::Evicted, Outcome::Error),
            (Phase::Failed, Reason::PodDeleted, Outcome::Error),
            (Phase::Failed, Reason::NodeLost, Outcome::Error),
            (Phase::Failed, Reason::InternalError, Outcome::Error),
            (Phase::Cancelled, Reason::Cancelled, Outcome::Error),
        ] {
            let executed = told(status(phase, reason, Some("so far"))).unwrap();
            assert_eq!((executed.status, executed.reason), (outcome, reason));
            assert_eq!(
                (executed.output.as_str(), executed.execution_time),
                ("so far", 42)
            );
        }
    }

    #[test]
    fn a_program_that_the_platform_did_not_run_is_a_503_with_its_reason_and_retry_after() {
        for (reason, code) in [
            (Reason::ImagePull, "image_pull"),
            (Reason::Unschedulable, "unschedulable"),
            (Reason::QuotaExceeded, "quota_exceeded"),
            (Reason::IsolationUnavailable, "isolation_unavailable"),
            (Reason::InternalError, "internal_error"),
            (Reason::Evicted, "evicted"),
            (Reason::PodDeleted, "pod_deleted"),
            (Reason::NodeLost, "node_lost"),
            (Reason::OutOfMemory, "out_of_memory"),
        ] {
            let error = told(status(Phase::Failed, reason, None)).unwrap_err();
            assert_eq!(
                (error.status, error.code),
                (StatusCode::SERVICE_UNAVAILABLE, code)
            );
            assert_eq!((error.reason, error.message.as_str()), (Some(reason), "why"));
            assert_eq!(error.id.as_deref(), Some("cex-1"));
            assert!(error.retry_after.is_some());
        }
    }

    #[test]
    fn a_rejected_spec_is_the_clients_fault() {
        let error = told(status(Phase::Failed, Reason::Rejected, None)).unwrap_err();
        assert_eq!((error.status, error.code), (StatusCode::BAD_REQUEST, "rejected"));
        assert_eq!((error.message.as_str(), error.retry_after), ("why", None));
    }

    #[test]
    fn cancelled_before_its_start_is_an_error_and_not_a_fault_of_the_platform() {
        let executed = told(status(Phase::Cancelled, Reason::Cancelled, None)).unwrap();
        assert_eq!((executed.status, executed.output.as_str()), (Outcome::Error, ""));
    }

    #[test]
    fn a_status_that_tells_no_end_is_no_result() {
        for unfinished in [
            CodeExecutionStatus::default(),
            status(Phase::Running, Reason::Completed, None),
            status(Phase::Queued, Reason::Completed, None),
        ] {
            let error = told(unfinished).unwrap_err();
            assert_eq!((error.code, error.retry_after), ("no_result", None));
        }
    }

    #[test]
    fn server_timing_names_each_stage() {
        let timings = Timings {
            queue_ms: 1,
            claim_ms: 9,
            run_ms: 5,
            ..Timings::default()
        };
        let ended = CodeExecutionStatus {
            timings: Some(timings),
            ..status(Phase::Succeeded, Reason::Completed, Some(""))
        };
        let executed = answer("cex-1", ended, Duration::from_millis(31)).unwrap();
        assert_eq!(
            executed.server_timing(),
            "queue;dur=1, start;dur=0, claim;dur=9, run;dur=5, collect;dur=0, total;dur=31"
        );
    }

    #[test]
    fn the_body_has_every_key_but_error_and_warnings_on_success() {
        let mut succeeded = status(Phase::Succeeded, Reason::Completed, Some("1\n"));
        succeeded.error = None;
        let body = serde_json::to_value(told(succeeded).unwrap()).unwrap();
        let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "executionTime",
                "exitCode",
                "files",
                "id",
                "output",
                "outputBytes",
                "reason",
                "retryable",
                "signal",
                "status",
                "stderr",
                "timings",
                "truncated",
                "usage",
                "warm"
            ]
        );
        assert_eq!(body["status"], "success");
    }
}
