use codeexec_crds::{CodeExecutionStatus, Phase, Reason};
use serde_json::Value;

use crate::Outcome;

/// How a program ended, as a user sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// In the plan's words.
    pub outcome: Outcome,
    /// The true cause.
    pub reason: Option<Reason>,
    /// What it exited with.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What was kept of its standard output.
    pub stdout: String,
    /// What was kept of its standard error.
    pub stderr: String,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether some of either stream was cut.
    pub truncated: bool,
    /// Paths and types of its result files, such as `a.csv text/csv`.
    pub files: Vec<String>,
    /// Whether some of what it left was not taken.
    pub files_dropped: bool,
}

impl Observed {
    /// What an execution's final status tells.
    #[must_use]
    pub fn of_status(status: &CodeExecutionStatus) -> Self {
        let truncated = status.truncated.unwrap_or_default();
        Self {
            outcome: match status.phase {
                Some(Phase::Succeeded) => Outcome::Success,
                Some(Phase::TimedOut) => Outcome::Timeout,
                _ => Outcome::Error,
            },
            reason: status.reason,
            exit_code: status.exit_code,
            signal: status.signal,
            stdout: status.output.clone().unwrap_or_default(),
            stderr: status.stderr.clone().unwrap_or_default(),
            error: status.error.clone(),
            truncated: truncated.stdout || truncated.stderr,
            files: status
                .files
                .iter()
                .flatten()
                .map(|file| format!("{} {}", file.path, file.mime_type))
                .collect(),
            files_dropped: truncated.files,
        }
    }

    /// What the answer to `POST /api/execute` tells.
    #[must_use]
    pub fn of_answer(http_status: u16, body: &Value) -> Self {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| body[name].as_i64().and_then(|value| i32::try_from(value).ok());
        let reason = serde_json::from_value(body["reason"].clone()).ok();
        let is_cut = |stream: &str| body["truncated"][stream].as_bool().unwrap_or(false);
        let (outcome, reason) = match (http_status, body["status"].as_str()) {
            (200, Some("success")) => (Outcome::Success, reason),
            (200, Some("timeout")) => (Outcome::Timeout, reason),
            (200, Some("error")) => (Outcome::Error, reason),
            // The others of the four hundreds are not about the program: no key, too many requests.
            (400 | 413 | 415 | 422, _) => (Outcome::Refused, reason),
            // Not blamed on the program, whatever it says of itself.
            _ => (Outcome::Error, reason.or(Some(Reason::InternalError))),
        };
        Self {
            outcome,
            reason,
            exit_code: number("exitCode"),
            signal: number("signal"),
            stdout: text("output"),
            stderr: text("stderr"),
            error: body["error"].as_str().map(str::to_owned),
            truncated: is_cut("stdout") || is_cut("stderr"),
            files: body["files"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|file| {
                    let text = |name: &str| file[name].as_str().unwrap_or_default();
                    format!("{} {}", text("path"), text("mimeType"))
                })
                .collect(),
            files_dropped: is_cut("files"),
        }
    }
}

#[cfg(test)]
mod tests {
    use codeexec_crds::{ResultFile, Truncated};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_and_its_answer_tell_the_same() {
        let status = CodeExecutionStatus {
            phase: Some(Phase::Failed),
            reason: Some(Reason::Signaled),
            signal: Some(9),
            output: Some("out".to_owned()),
            stderr: Some("err".to_owned()),
            error: Some("why".to_owned()),
            truncated: Some(Truncated {
                stdout: false,
                stderr: true,
                files: true,
            }),
            files: Some(vec![ResultFile {
                path: "a".to_owned(),
                mime_type: "text/plain".to_owned(),
                content: String::new(),
            }]),
            ..CodeExecutionStatus::default()
        };
        let body = json!({
            "status": "error", "reason": "Signaled", "exitCode": null, "signal": 9, "output": "out",
            "stderr": "err", "error": "why", "truncated": {"stdout": false, "stderr": true, "files": true},
            "files": [{"path": "a", "mimeType": "text/plain", "content": ""}],
        });
        let observed = Observed::of_status(&status);
        assert_eq!(observed, Observed::of_answer(200, &body));
        assert_eq!(
            (observed.outcome, observed.signal, observed.truncated),
            (Outcome::Error, Some(9), true)
        );
        assert_eq!(
            (observed.files, observed.files_dropped),
            (vec!["a text/plain".to_owned()], true)
        );
    }

    #[test]
    fn only_answers_about_the_request_are_refusals() {
        let of = |status| Observed::of_answer(status, &json!({"error": "no", "code": "x"}));
        assert_eq!(of(400).outcome, Outcome::Refused);
        assert_eq!(of(413).outcome, Outcome::Refused);
        for status in [401, 429, 500, 503] {
            let observed = of(status);
            assert_eq!(
                (observed.outcome, observed.reason),
                (Outcome::Error, Some(Reason::InternalError))
            );
        }
        assert_eq!(of(400).error.as_deref(), Some("no"));
    }
}
