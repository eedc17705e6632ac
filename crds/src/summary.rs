use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::ANNOTATION_SUMMARY;

/// What is told of a finished CodeExecution in its metadata, so that thousands of records are counted without
/// reading one output. Written by the operator into [`ANNOTATION_SUMMARY`], as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its user: the label holds no more than a hash.
    pub user: String,
    /// When its result was made.
    pub ended_at: Time,
    /// What of it takes room.
    pub stored: StoredBytes,
    /// [`vcpuSeconds`](crate::Usage::vcpu_seconds) of its usage; 0 where nothing is known to have run.
    pub vcpu_seconds: f64,
    /// [`cost`](crate::Usage::cost) of its usage, at the price of its day.
    pub cost: f64,
}

/// How many bytes a record takes in etcd, as the Kubernetes API server encodes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredBytes {
    /// Standard output.
    pub stdout: u64,
    /// Standard error.
    pub stderr: u64,
    /// The text of `error`.
    pub error: u64,
    /// Result files. Records of before there were any say nothing of them.
    #[serde(default)]
    pub files: u64,
    /// Everything else: spec, metadata, and the rest of the status.
    pub rest: u64,
}

impl StoredBytes {
    /// All of the record.
    #[must_use]
    pub fn total(self) -> u64 {
        self.stdout + self.stderr + self.error + self.files + self.rest
    }
}

impl Summary {
    /// The summary in an object's metadata; nothing where there is none, or somebody spoiled it.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let text = metadata.annotations.as_ref()?.get(ANNOTATION_SUMMARY)?;
        let summary: Self = serde_json::from_str(text).ok()?;
        let counts = |number: f64| number.is_finite() && number >= 0.0;
        (counts(summary.vcpu_seconds) && counts(summary.cost)).then_some(summary)
    }

    /// The annotation's value.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        // Plain data with texts for keys: serde_json can't refuse it.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn annotated(text: &str) -> ObjectMeta {
        ObjectMeta {
            annotations: Some(BTreeMap::from([(ANNOTATION_SUMMARY.to_owned(), text.to_owned())])),
            ..ObjectMeta::default()
        }
    }

    fn summary() -> Summary {
        Summary {
            user: "alice \"<\u{2028}".to_owned(),
            ended_at: Time("2026-01-01T00:00:00Z".parse().expect("a time")),
            stored: StoredBytes {
                stdout: 1,
                stderr: 2,
                error: 3,
                files: 5,
                rest: 4,
            },
            vcpu_seconds: 0.0125,
            cost: 0.0125 * 0.000_034_17,
        }
    }

    #[test]
    fn a_summary_reads_as_it_was_written() {
        let text = summary().to_annotation();
        assert_eq!(Summary::of(&annotated(&text)), Some(summary()));
        assert_eq!(summary().stored.total(), 15);
        let without_files = text.replace("\"files\":5,", "");
        assert_ne!(without_files, text);
        let older = Summary::of(&annotated(&without_files)).expect("it reads");
        assert_eq!(older.stored.total(), 10);
    }

    #[test]
    fn what_somebody_spoiled_is_no_summary() {
        let negative = summary().to_annotation().replace("0.0125", "-1");
        let huge = summary().to_annotation().replace("0.0125", "1e999");
        for text in ["", "{}", "yesterday", &negative, &huge] {
            assert_eq!(Summary::of(&annotated(text)), None, "{text}");
        }
        assert_eq!(Summary::of(&ObjectMeta::default()), None);
    }
}
