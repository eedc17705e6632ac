//! Parameters of requests, with the bounds that they are checked against.

use codeexec_crds::bounds;
use serde_json::{Value, json};

use crate::backend::Stage;
use crate::http::{idempotency, query};

fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    let mut parameter = json!({
        "in": place,
        "name": name,
        "required": place == "path",
        "description": description,
    });
    parameter["schema"] = schema;
    parameter
}

pub(super) fn idempotency_key() -> Value {
    let description = "The client's own name for the request: sent again with the same name and body, it runs its \
        program once. 1 to 255 visible ASCII characters, such as a UUID; in quotation marks or not.";
    let schema = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": idempotency::MAX_CHARS,
        // Two quotation marks are an empty key.
        "pattern": "^[!#-~][!-~]*$",
    });
    parameter("header", "Idempotency-Key", description, schema)
}

pub(super) fn last_event_id() -> Value {
    let description = "The id of the last event that was seen: output goes on behind it.";
    // Empty is none. No number of so many digits is too large for the server.
    let schema = json!({"type": "string", "pattern": "^[0-9]{0,19}$"});
    parameter("header", "Last-Event-ID", description, schema)
}

pub(super) fn id() -> Value {
    let schema = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": bounds::NAME_CHARS,
        "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        "examples": ["cex-3geh4cgff3fysx2v"],
    });
    parameter("path", "id", "Name of the execution.", schema)
}

fn user() -> Value {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": bounds::NAME_CHARS});
    parameter(
        "query",
        "user",
        "Only this user's. Another's: administrators only.",
        schema,
    )
}

/// Those of a list.
pub(super) fn list() -> Vec<Value> {
    let stages = json!({"type": "string", "enum": Stage::ALL});
    let limit =
        json!({"type": "integer", "minimum": 1, "maximum": query::MAX_LIMIT, "default": query::LIMIT});
    let token = json!({"type": "string", "maxLength": query::MAX_TOKEN, "pattern": "^[!-~]*$"});
    vec![
        user(),
        parameter("query", "status", "Only those that stand so.", stages),
        parameter(
            "query",
            "since",
            "Only those taken on then or later; seconds count.",
            json!({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00Z"]}),
        ),
        parameter("query", "limit", "Executions in the page at most.", limit),
        parameter(
            "query",
            "continue",
            "The `continue` of the page before. One that is too old is a 400.",
            token,
        ),
    ]
}

/// Those of a report on usage.
pub(super) fn usage() -> Vec<Value> {
    let moment = || {
        json!({
            "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
            "examples": ["2026-01-31", "2026-01-31T12:00:00Z"],
        })
    };
    vec![
        parameter(
            "query",
            "from",
            "Begin of the period; without it, of this month. A date is its first moment in UTC.",
            moment(),
        ),
        parameter(
            "query",
            "to",
            "Its end, which is not part of it; without it, now.",
            moment(),
        ),
        user(),
    ]
}
