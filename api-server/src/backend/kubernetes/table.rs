//! Lists of executions as the Kubernetes API makes them for `kubectl get`: a row of a few columns for each, and never
//! the object with its code and its output.

use codeexec_crds::{Phase, Reason};
use jiff::Timestamp;
use kube::core::{ListMeta, ObjectMeta};
use serde::Deserialize;
use serde::de::value::{Error as Unknown, StrDeserializer};
use serde_json::Value;

use crate::backend::{Listed, Query, Stage};

/// What a request for a list accepts.
pub const MIME: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Where the list goes on.
    #[serde(default)]
    pub metadata: ListMeta,
    column_definitions: Vec<Column>,
    /// Absent where there is nothing.
    #[serde(default)]
    rows: Option<Vec<Row>>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Row {
    cells: Vec<Value>,
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

impl Table {
    /// The executions in it. The columns are those of the CodeExecution's definition.
    #[must_use]
    pub fn items(self) -> Vec<Listed> {
        let at = |name: &str| {
            self.column_definitions
                .iter()
                .position(|column| column.name == name)
        };
        let (phase, reason, user) = (at("Phase"), at("Reason"), at("User"));
        let rows = self.rows.into_iter().flatten();
        let listed = rows.map(|Row { cells, object }| {
            let cell = |at: Option<usize>| at.and_then(|at| cells.get(at)?.as_str());
            Listed {
                id: object.metadata.name.unwrap_or_default(),
                user: cell(user).unwrap_or_default().to_owned(),
                phase: cell(phase).and_then(word::<Phase>).unwrap_or(Phase::Queued),
                reason: cell(reason).and_then(word::<Reason>),
                created: object
                    .metadata
                    .creation_timestamp
                    .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            }
        });
        listed.collect()
    }
}

fn word<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    T::deserialize(StrDeserializer::<Unknown>::new(text)).ok()
}

/// The selector of fields that a query comes to. The Kubernetes API selects by nothing else: the time is looked at
/// here, when a page has come.
#[must_use]
pub fn fields(query: &Query) -> String {
    let is = |phase: Phase| format!("status.phase={}", phase.as_str());
    let is_not = |phases: &[Phase]| -> Vec<String> {
        let terms = phases
            .iter()
            .map(|phase| format!("status.phase!={}", phase.as_str()));
        terms.collect()
    };
    let mut terms = match query.stage {
        None => vec![],
        // One that the operator has not seen has no phase yet.
        Some(Stage::Queued) => is_not(&[
            Phase::Running,
            Phase::Succeeded,
            Phase::Failed,
            Phase::TimedOut,
            Phase::Cancelled,
        ]),
        Some(Stage::Running) => vec![is(Phase::Running)],
        Some(Stage::Success) => vec![is(Phase::Succeeded)],
        Some(Stage::Timeout) => vec![is(Phase::TimedOut)],
        // Either of two: there is no "or".
        Some(Stage::Error) => {
            let mut terms = is_not(&[Phase::Queued, Phase::Running, Phase::Succeeded, Phase::TimedOut]);
            terms.push("status.phase!=".to_owned());
            terms
        }
    };
    if let Some(user) = &query.user {
        terms.push(format!("spec.user={}", escaped(user)));
    }
    terms.join(",")
}

/// A value in which no character means anything.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use serde_json::json;

    use super::*;

    fn query(stage: Option<Stage>, user: Option<&str>) -> Query {
        Query {
            user: user.map(str::to_owned),
            stage,
            since: None,
            after: None,
            limit: 10,
        }
    }

    #[test]
    fn a_query_becomes_a_selector_in_which_a_user_can_smuggle_nothing() {
        assert_eq!(fields(&query(None, None)), "");
        assert_eq!(
            fields(&query(Some(Stage::Success), Some(r"a,spec.user=b\"))),
            r"status.phase=Succeeded,spec.user=a\,spec.user\=b\\"
        );
        assert!(fields(&query(Some(Stage::Queued), None)).starts_with("status.phase!=Running,"));
        assert!(fields(&query(Some(Stage::Error), None)).ends_with(",status.phase!="));
    }

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        let table = json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"continue": "next"},
            "columnDefinitions": [{"name": "Name", "type": "string"}, {"name": "Phase", "type": "string"},
                                  {"name": "Reason", "type": "string"}, {"name": "User", "type": "string"}],
            "rows": [
                {"cells": ["a", "Failed", "OutOfMemory", "alice"],
                 "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}},
                {"cells": ["b", null, null, "bob"], "object": {"metadata": {"name": "b"}}},
                {"cells": ["c", "Exploded", "Moon", "bob"], "object": {"metadata": {"name": "c"}}},
            ],
        });
        let table: Table = serde_json::from_value(table).unwrap();
        assert_eq!(table.metadata.continue_.as_deref(), Some("next"));
        let items = table.items();
        assert_eq!((items[0].id.as_str(), items[0].user.as_str()), ("a", "alice"));
        assert_eq!(
            (items[0].phase, items[0].reason),
            (Phase::Failed, Some(Reason::OutOfMemory))
        );
        assert_eq!((items[1].phase, items[1].reason), (Phase::Queued, None));
        // Of a version that is newer than this server.
        assert_eq!((items[2].phase, items[2].reason), (Phase::Queued, None));
        let empty = json!({"columnDefinitions": [], "rows": null});
        assert!(serde_json::from_value::<Table>(empty).unwrap().items().is_empty());
    }
}
