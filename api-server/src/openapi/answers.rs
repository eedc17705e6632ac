//! Headers and bodies of answers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::http::codes::{CODES, Code};
use crate::http::error::ErrorBody;

/// A header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Location,
    Replayed,
    RateLimit,
    RetryAfter,
    ServerTiming,
    Authenticate,
    Allow,
}

impl Header {
    /// Its fields, of which some belong together, with type and meaning.
    fn fields(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Self::Location => &[("Location", "string", "Where the execution can be looked at.")],
            Self::Replayed => &[(
                "Idempotent-Replayed",
                "string",
                "`true` where the answer is about an execution that was begun before, under the same Idempotency-Key.",
            )],
            Self::RateLimit => &[
                (
                    "RateLimit-Policy",
                    "string",
                    "How many executions within how many seconds: `\"executions\";q=10;w=60`.",
                ),
                (
                    "RateLimit",
                    "string",
                    "How many are left, and in how many seconds there is one more: `\"executions\";r=3;t=42`.",
                ),
                (
                    "RateLimit-Limit",
                    "integer",
                    "Executions that a user may begin within a minute.",
                ),
                ("RateLimit-Remaining", "integer", "How many of them are left."),
                (
                    "RateLimit-Reset",
                    "integer",
                    "In how many seconds there is one more.",
                ),
            ],
            Self::RetryAfter => &[(
                "Retry-After",
                "integer",
                "In how many seconds the same request may do better. Absent where asking again may run the program again.",
            )],
            Self::ServerTiming => &[(
                "Server-Timing",
                "string",
                "Where the time went, in milliseconds: queue, start, claim, run, collect, total.",
            )],
            Self::Authenticate => &[("WWW-Authenticate", "string", "What credential is asked for.")],
            Self::Allow => &[("Allow", "string", "The methods that the path takes.")],
        }
    }
}

/// Headers as a document has them.
pub(super) fn headers(headers: &[Header]) -> Map<String, Value> {
    let fields = headers.iter().flat_map(|header| header.fields());
    fields
        .map(|(name, kind, meaning)| {
            let mut schema = json!({"type": kind});
            if *kind == "integer" {
                schema["minimum"] = 0.into();
            }
            (
                (*name).to_owned(),
                json!({"description": meaning, "schema": schema}),
            )
        })
        .collect()
}

/// An answer that goes well.
pub(super) fn answer(description: &str, told: &[Header], body: Option<Value>) -> Value {
    let mut answer = json!({"description": description});
    if !told.is_empty() {
        answer["headers"] = headers(told).into();
    }
    if let Some(schema) = body {
        answer["content"] = json!({"application/json": {"schema": schema}});
    }
    answer
}

/// The answers that an operation's error words come to, by status. `told` are the headers that errors have as well.
pub(super) fn errors(words: &[&str], told: &[Header], schemas: &mut Schemas) -> BTreeMap<u16, Value> {
    let mut by_status = BTreeMap::<u16, Vec<&Code>>::new();
    for code in CODES.iter().filter(|code| words.contains(&code.word)) {
        by_status.entry(code.status).or_default().push(code);
    }
    let error = schemas.of::<ErrorBody<'static>>();
    let described = by_status.into_iter().map(|(status, codes)| {
        let lines: Vec<_> = codes
            .iter()
            .map(|code| format!("`{}`: {}", code.word, code.meaning))
            .collect();
        let words: Vec<_> = codes.iter().map(|code| code.word).collect();
        let body = json!({"allOf": [error, {"properties": {"code": {"enum": words}}}]});
        let own: &[Header] = match status {
            401 => &[Header::Authenticate],
            405 => &[Header::Allow],
            429 => &[Header::RetryAfter, Header::RateLimit],
            503 => &[Header::RetryAfter],
            _ => &[],
        };
        // Whoever was told how they stand once is told so at the end, however it ends.
        let shared = told
            .iter()
            .filter(|header| status == 503 && !own.contains(header));
        let told: Vec<_> = own.iter().chain(shared).copied().collect();
        (status, answer(&lines.join("\n\n"), &told, Some(body)))
    });
    described.collect()
}
