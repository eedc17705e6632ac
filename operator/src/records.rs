//! Reads and writes of CodeExecutions: every write guarded, the result made to fit.

use codeexec_crds::{
    ANNOTATION_EXPIRES_AT, ANNOTATION_SUMMARY, CodeExecution, CodeExecutionStatus, LABEL_PHASE, LABEL_USER,
    Phase, Summary, Truncated,
};
use codeexec_execution::user_hash;
use codeexec_runner::encoding::{encoded_len, encoded_prefix};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::connection::{CallError, call};
use crate::etcd::keep_half;

/// What became of a guarded write.
#[derive(Debug)]
pub enum Written {
    /// It stands; the object's new resourceVersion.
    Yes(String),
    /// A result stands already: somebody else's, or ours, whose write got no answer.
    AlreadyFinished(Box<CodeExecution>),
    /// The object is gone.
    Gone,
}

/// Writes into a status under the object's resourceVersion.
///
/// Where somebody wrote meanwhile (a cancellation, a label), it is read again: a result that stands is never
/// overwritten, anything else is written over with the new version.
///
/// # Errors
/// When the Kubernetes API refuses for another reason, or can't be reached.
pub async fn write_status(
    api: &Api<CodeExecution>,
    name: &str,
    uid: &str,
    resource_version: &str,
    status: &Value,
) -> Result<Written, CallError> {
    let mut version = resource_version.to_owned();
    loop {
        // The uid guards against an object of the same name that was created since.
        let patch = json!({"metadata": {"resourceVersion": version, "uid": uid}, "status": status});
        match call(api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))).await {
            Ok(object) => return Ok(Written::Yes(object.metadata.resource_version.unwrap_or_default())),
            Err(error) if error.is_not_found() => return Ok(Written::Gone),
            // 409 after a write of our own whose answer was lost is found here as well: the result stands.
            Err(error) if error.status() == Some(409) => match call(api.get(name)).await {
                Err(error) if error.is_not_found() => return Ok(Written::Gone),
                Err(error) => return Err(error),
                Ok(object) if object.metadata.uid.as_deref() != Some(uid) => return Ok(Written::Gone),
                Ok(object) if is_finished(&object) => {
                    return Ok(Written::AlreadyFinished(Box::new(object)));
                }
                Ok(object) => version = object.metadata.resource_version.unwrap_or_default(),
            },
            Err(error) => return Err(error),
        }
    }
}

/// Whether a result stands in an object.
#[must_use]
pub fn is_finished(object: &CodeExecution) -> bool {
    object
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .is_some_and(Phase::is_terminal)
}

/// The patch of a result: all of it, and what no longer holds taken away.
#[must_use]
pub fn result_patch(status: &CodeExecutionStatus) -> Value {
    // A status is plain data: serde_json can't refuse it.
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for field in ["queuePosition", "error", "exitCode", "signal"] {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    value
}

/// Makes output and files of a status that was refused for its size half as large.
///
/// Returns false when nothing is left to cut.
pub fn cut(status: &mut CodeExecutionStatus) -> bool {
    let mut truncated = status.truncated.unwrap_or_default();
    let halve = |text: &mut Option<String>, flag: &mut bool| {
        let Some(text) = text.as_mut().filter(|text| text.len() > 1024) else {
            return false;
        };
        text.truncate(encoded_prefix(text, encoded_len(text) / 2).len());
        *flag = true;
        true
    };
    let Truncated {
        stdout,
        stderr,
        files,
    } = &mut truncated;
    let output_cut = halve(&mut status.output, stdout);
    let stderr_cut = halve(&mut status.stderr, stderr);
    let files_cut = status.files.as_mut().is_some_and(keep_half);
    *files |= files_cut;
    status.truncated = Some(truncated);
    output_cut || stderr_cut || files_cut
}

/// Writes what a status patch can't: the labels that finished records are found by, when theirs goes, and its summary.
///
/// # Errors
/// When the Kubernetes API refuses or can't be reached; an object that is gone is no error.
pub async fn label_finished(
    api: &Api<CodeExecution>,
    name: &str,
    phase: Phase,
    ttl_seconds: i64,
    summary: &Summary,
) -> Result<(), CallError> {
    let metadata = json!({
        "labels": {LABEL_PHASE: phase.as_str(), LABEL_USER: user_hash(&summary.user)},
        "annotations": {
            ANNOTATION_EXPIRES_AT: format!("{:.0}", expiry(Timestamp::now(), ttl_seconds)),
            ANNOTATION_SUMMARY: summary.to_annotation(),
        },
    });
    patch_metadata(api, name, &metadata).await
}

/// Writes the summary of a finished record anew.
///
/// # Errors
/// When the Kubernetes API refuses or can't be reached; an object that is gone is no error.
pub async fn annotate(api: &Api<CodeExecution>, name: &str, summary: &Summary) -> Result<(), CallError> {
    let annotations = json!({"annotations": {ANNOTATION_SUMMARY: summary.to_annotation()}});
    patch_metadata(api, name, &annotations).await
}

async fn patch_metadata(api: &Api<CodeExecution>, name: &str, metadata: &Value) -> Result<(), CallError> {
    let patch = json!({"metadata": metadata});
    match call(api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// When a record goes that is finished now: not before its time, in whole seconds.
fn expiry(now: Timestamp, ttl_seconds: i64) -> Timestamp {
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    now.saturating_add(SignedDuration::from_secs(ttl_seconds))
        .and_then(|at| at.round(up))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use codeexec_crds::ResultFile;

    use super::*;

    #[test]
    fn a_record_stays_for_all_of_its_time_to_live() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        for (now, expires) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("2026-01-01T00:00:00.001Z", "2026-01-01T00:01:01Z"),
            ("2026-01-01T00:00:00.999Z", "2026-01-01T00:01:01Z"),
        ] {
            assert_eq!(expiry(at(now), 60), at(expires), "finished at {now}");
        }
        assert_eq!(expiry(Timestamp::MAX, 60), Timestamp::MAX);
    }

    fn file_of(bytes: usize) -> ResultFile {
        ResultFile {
            path: "a".to_owned(),
            mime_type: "text/plain".to_owned(),
            content: "A".repeat(bytes),
        }
    }

    #[test]
    fn a_refused_status_is_cut_until_nothing_is_left_to_cut() {
        let mut status = CodeExecutionStatus {
            output: Some("é".repeat(10_000)),
            stderr: Some("short".into()),
            files: Some([8000, 4000, 2000, 1000].map(file_of).into()),
            ..CodeExecutionStatus::default()
        };
        let mut cuts = 0;
        while cut(&mut status) {
            cuts += 1;
        }
        assert_eq!(cuts, 5);
        assert_eq!(
            status.truncated,
            Some(Truncated {
                stdout: true,
                stderr: false,
                files: true,
            })
        );
        assert_eq!(status.stderr.as_deref(), Some("short"));
        assert_eq!(status.files, Some(Vec::new()));
    }

    #[test]
    fn files_alone_are_cut_as_well() {
        let mut status = CodeExecutionStatus {
            files: Some(vec![file_of(100), file_of(1_000_000)]),
            ..CodeExecutionStatus::default()
        };
        assert!(cut(&mut status));
        assert_eq!(status.files.as_deref(), Some([file_of(100)].as_slice()));
        assert!(cut(&mut status) && !cut(&mut status), "the last one goes too");
    }

    #[test]
    fn a_result_takes_away_what_held_before_it() {
        let patch = result_patch(&CodeExecutionStatus::default());
        assert_eq!(patch["queuePosition"], Value::Null);
        assert!(
            patch
                .as_object()
                .is_some_and(|fields| fields.contains_key("queuePosition"))
        );
    }
}
