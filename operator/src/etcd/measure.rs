//! How many bytes of etcd a record takes.

use codeexec_crds::{CodeExecution, CodeExecutionStatus, ResultFile, StoredBytes, Summary};
use codeexec_execution::budget::encoded_json_len;
use codeexec_runner::encoding::{encoded_file_len, encoded_len};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What the end adds to the metadata: the names of the status' fields and of the labels in managedFields, the labels
/// themselves, and the summary.
const ADDED_METADATA: u64 = 3000;

/// Bytes of an execution's spec and metadata, managedFields included.
#[must_use]
pub fn object_bytes(execution: &CodeExecution) -> u64 {
    (encoded_json_len(&execution.spec) + encoded_json_len(&execution.metadata)) as u64
}

/// Bytes of a record with this status, `object_bytes` of it spec and metadata as they were before its end.
#[must_use]
pub fn stored(object_bytes: u64, status: &CodeExecutionStatus) -> StoredBytes {
    let length = |text: &Option<String>| text.as_deref().map_or(0, encoded_len) as u64;
    let files = status.files.iter().flatten();
    let rest = CodeExecutionStatus {
        output: None,
        stderr: None,
        error: None,
        files: None,
        ..status.clone()
    };
    StoredBytes {
        stdout: length(&status.output),
        stderr: length(&status.stderr),
        error: length(&status.error),
        files: files.map(file_bytes).sum::<usize>() as u64,
        rest: object_bytes + encoded_json_len(&rest) as u64 + ADDED_METADATA,
    }
}

/// Bytes of a result file.
#[must_use]
pub fn file_bytes(file: &ResultFile) -> usize {
    encoded_file_len(&file.path, &file.mime_type, &file.content)
}

/// The summary of an execution with the given result.
#[must_use]
pub fn summary(user: &str, status: &CodeExecutionStatus, stored: StoredBytes) -> Summary {
    let usage = status.usage.unwrap_or_default();
    Summary {
        user: user.to_owned(),
        ended_at: status
            .completion_time
            .clone()
            .unwrap_or_else(|| Time(Timestamp::now())),
        stored,
        vcpu_seconds: usage.vcpu_seconds,
        cost: usage.cost,
    }
}

#[cfg(test)]
mod tests {
    use codeexec_crds::CodeExecutionSpec;
    use codeexec_execution::budget::OBJECT_BYTES;

    use super::*;

    #[test]
    fn texts_count_as_they_are_encoded() {
        let status = CodeExecutionStatus {
            output: Some("<\u{2028}\u{1}".to_owned()),
            stderr: Some("é".to_owned()),
            error: Some("\n".to_owned()),
            ..CodeExecutionStatus::default()
        };
        let stored = stored(100, &status);
        assert_eq!((stored.stdout, stored.stderr, stored.error), (18, 2, 2));
        assert!(stored.rest > 100 + ADDED_METADATA);
    }

    #[test]
    fn files_count_as_they_are_encoded() {
        let file = ResultFile {
            path: "a<é".to_owned(),
            mime_type: "image/png".to_owned(),
            content: "A".repeat(1000),
        };
        let files = vec![file; 3];
        let encoded = encoded_json_len(&files) as u64;
        let of_files = |files: Vec<ResultFile>| {
            stored(
                0,
                &CodeExecutionStatus {
                    files: Some(files),
                    ..CodeExecutionStatus::default()
                },
            )
        };
        let (with, without) = (of_files(files), of_files(Vec::new()));
        assert!(with.files.abs_diff(encoded) < 20, "{} {encoded}", with.files);
        assert_eq!((without.files, without.rest), (0, with.rest));
    }

    #[test]
    fn a_spec_counts_with_its_files() {
        let mut spec = CodeExecutionSpec::python("print(1)");
        let plain = object_bytes(&CodeExecution::new("x", spec.clone()));
        spec.stdin = Some("\0".repeat(64 * 1024));
        let heavy = object_bytes(&CodeExecution::new("x", spec));
        assert!(plain < 1000);
        assert!(heavy > 6 * 64 * 1024 && heavy < OBJECT_BYTES as u64);
    }
}
