//! How much output, and how many result files, fit beside a spec in one object of the Kubernetes API.

use codeexec_crds::CodeExecution;
use codeexec_runner::encoding::encoded_len;
use codeexec_runner::frames::OutputLimits;
use serde_json::Value;

/// Largest encoded object that we write. etcd refuses requests above 1.5 MiB (1.57 MB), and the API server
/// adds managedFields and the request's own wrapping.
pub const OBJECT_BYTES: usize = 1_400_000;

/// Room for every field of the status that is neither output nor files: the error text, conditions, timings.
const STATUS_RESERVE: usize = ERROR_ENCODED_BYTES + 16_000;

/// Longest `error` text as encoded. Its last lines are kept: they name the exception.
pub const ERROR_ENCODED_BYTES: usize = 32_000;

/// What is always left for output, even beside a spec that encodes badly.
const OUTPUT_ENCODED_MIN: usize = 100_000;

/// The plan's bound on output: 1 MB of both streams together.
pub const OUTPUT_BYTES: usize = 1024 * 1024;

/// The output limits of one execution: what its own spec and metadata leave of [`OBJECT_BYTES`]. Result files get what
/// the output leaves of that.
#[must_use]
pub fn output_limits(execution: &CodeExecution) -> OutputLimits {
    let used = encoded_json_len(&execution.spec) + encoded_json_len(&execution.metadata);
    let left = OBJECT_BYTES.saturating_sub(STATUS_RESERVE + used);
    OutputLimits {
        bytes: OUTPUT_BYTES,
        encoded_bytes: left.max(OUTPUT_ENCODED_MIN),
    }
}

/// Bytes of a value as the Kubernetes API server encodes it. A value that is not JSON counts nothing.
#[must_use]
pub fn encoded_json_len(value: &impl serde::Serialize) -> usize {
    fn walk(value: &Value) -> usize {
        match value {
            Value::String(text) => encoded_len(text) + 2,
            Value::Array(items) => items.iter().map(|item| walk(item) + 1).sum::<usize>() + 2,
            Value::Object(fields) => {
                fields
                    .iter()
                    .map(|(name, value)| encoded_len(name) + walk(value) + 4)
                    .sum::<usize>()
                    + 2
            }
            other => other.to_string().len(),
        }
    }
    serde_json::to_value(value).map_or(0, |value| walk(&value))
}

#[cfg(test)]
mod tests {
    use codeexec_crds::CodeExecutionSpec;

    use super::*;

    #[test]
    fn a_plain_program_leaves_room_for_its_whole_megabyte_of_plain_text() {
        let limits = output_limits(&CodeExecution::new("x", CodeExecutionSpec::python("print(1)")));
        assert_eq!(limits.bytes, 1024 * 1024);
        assert!(limits.encoded_bytes >= 1024 * 1024 + 200_000);
    }

    #[test]
    fn a_spec_at_its_bounds_leaves_at_least_900_kb() {
        let mut spec = CodeExecutionSpec::python("x".repeat(10_000));
        spec.stdin = Some("x".repeat(64 * 1024));
        spec.args = Some(vec!["x".repeat(32 * 1024)]);
        spec.files = Some(vec![codeexec_crds::InputFile {
            path: "a".into(),
            content: "A".repeat(256 * 1024),
        }]);
        assert!(output_limits(&CodeExecution::new("x", spec)).encoded_bytes >= 900_000);
    }

    #[test]
    fn input_that_encodes_badly_is_counted_as_encoded() {
        let mut spec = CodeExecutionSpec::python("x");
        spec.stdin = Some("\0".repeat(64 * 1024));
        assert!(output_limits(&CodeExecution::new("x", spec)).encoded_bytes < 1_000_000);
    }
}
