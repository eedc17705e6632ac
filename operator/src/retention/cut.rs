//! Takes output and files of a finished record, and leaves the head of its texts.

use codeexec_crds::{StoredBytes, Summary};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tracing::debug;

use super::kept::Record;
use crate::connection::{CallError, call};
use crate::driver::Context;
use crate::etcd::{Room, object_bytes, stored, summary};
use crate::records::annotate;

/// Cuts a record's texts to their heads, takes its files, and says so in its summary. What it takes since; nothing where it is gone.
///
/// A crash between the two writes leaves a summary that says too much: the record is cut once more, which changes
/// nothing but the summary.
///
/// # Errors
/// When the Kubernetes API refuses, can't be reached, or has a record that can't be read.
pub async fn cut(context: &Context, record: &Record) -> Result<Option<StoredBytes>, CallError> {
    let execution = match call(context.executions.get(&record.name)).await {
        Ok(execution) if execution.metadata.uid.as_ref() == Some(&record.uid) => execution,
        Ok(_) => return Ok(None),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let object_bytes = object_bytes(&execution);
    let mut status = execution.status.unwrap_or_default();
    if Room::Heads.shorten(&mut status) {
        // The uid guards against a new object of the same name; the result itself is never written again.
        let patch = json!({"metadata": {"uid": record.uid}, "status": {
            "output": status.output,
            "stderr": status.stderr,
            "error": status.error,
            "files": status.files,
            "truncated": status.truncated,
        }});
        let api = &context.executions;
        let patched =
            call(api.patch_status(&record.name, &PatchParams::default(), &Patch::Merge(&patch))).await;
        match patched {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.status() == Some(409) => return Ok(None),
            Err(error) => return Err(error),
        }
        context.metrics.storage.cut(Room::Heads.as_str(), "retained");
        debug!(execution = %record.name, "cut the output of a finished record");
    }
    let stored = stored(object_bytes, &status);
    // Who it was and what it cost stays as it was told, where that can be read.
    let summary = match Summary::of(&execution.metadata) {
        Some(summary) => Summary { stored, ..summary },
        None => summary(&execution.spec.user, &status, stored),
    };
    annotate(&context.executions, &record.name, &summary).await?;
    context.etcd.spend(Timestamp::now(), 2 * stored.total());
    Ok(Some(stored))
}
