//! One method of one path, as a document has it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answers::{Header, errors};
use super::program;
use super::schemas::Schemas;

/// What identifying callers comes to where it fails, and what every operation may end with.
const IDENTIFYING: [&str; 3] = ["unauthenticated", "forbidden", "auth_unavailable"];
const ALWAYS: [&str; 2] = ["internal", "overloaded"];

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    /// Its name in clients that are generated.
    pub id: &'static str,
    /// Its group.
    pub tag: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub parameters: Vec<Value>,
    /// Whether its body is a program.
    pub takes_program: bool,
    /// The answers that go well.
    pub answers: BTreeMap<u16, Value>,
    /// The words of its errors.
    pub errors: Vec<&'static str>,
    /// What errors tell that come after a program was taken on.
    pub error_headers: &'static [Header],
}

impl Operation {
    pub(super) fn new(tag: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: "",
            parameters: Vec::new(),
            takes_program: false,
            answers: BTreeMap::new(),
            errors: Vec::new(),
            error_headers: &[],
        }
    }

    pub(super) fn into_value(self, needs_identity: bool, schemas: &mut Schemas) -> Value {
        let identifying: &[&str] = if needs_identity { &IDENTIFYING } else { &[] };
        let words = [&self.errors[..], identifying, &ALWAYS].concat();
        let mut answers = self.answers;
        answers.extend(errors(&words, self.error_headers, schemas));
        let responses: serde_json::Map<_, _> = answers
            .into_iter()
            .map(|(status, answer)| (status.to_string(), answer))
            .collect();
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": responses,
        });
        if !self.description.is_empty() {
            operation["description"] = self.description.into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if self.takes_program {
            let schema = json!({"$ref": format!("#/components/schemas/{}", program::NAME)});
            operation["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": schema}},
            });
        }
        if !needs_identity {
            operation["security"] = json!([]);
        }
        operation
    }
}
