//! The schema of a request's body. Its parser is written by hand (`http/body.rs`), so this is too: from the bounds
//! that are checked, and with the descriptions of the resource's fields.

use codeexec_crds::{CodeExecutionSpec, Language, bounds};
use serde_json::{Value, json};

/// Its name in the document.
pub(super) const NAME: &str = "Program";

/// Text that C strings can hold.
const NO_NUL: &str = r"^[^\u0000]*$";

/// Names joined by `/`, none of them empty, `.` or `..`. Spelled without look-ahead, for the sake of tools that make
/// examples of it.
const PATH: &str = r"^(([^/.\u0000]|\.[^/.\u0000]|\.\.[^/\u0000])[^/\u0000]*)(/(([^/.\u0000]|\.[^/.\u0000]|\.\.[^/\u0000])[^/\u0000]*))*$";

/// Base64 with its padding, and with nothing in the bits that no byte is left for.
const BASE64: &str = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

/// Name of an environment variable.
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

pub(super) fn schema() -> Value {
    let spec = schemars::schema_for!(CodeExecutionSpec).to_value();
    let defaults = CodeExecutionSpec::python("");
    let told = |field: &str| spec["properties"][field]["description"].clone();
    json!({
        "type": "object",
        "description": "A program, and what it gets.",
        "additionalProperties": false,
        "required": ["code", "language"],
        "properties": {
            "code": {
                "type": "string",
                "description": told("code"),
                "minLength": 1,
                "maxLength": bounds::CODE_CHARS,
                "pattern": r"\S",
                "examples": ["print('Hello, World!')"],
            },
            "language": {
                "type": "string",
                "description": told("language"),
                "enum": [Language::Python],
                "examples": [Language::Python],
            },
            "timeout": {
                "type": ["integer", "null"],
                "description": told("timeoutSeconds"),
                "minimum": bounds::TIMEOUT_SECONDS.start(),
                "maximum": bounds::TIMEOUT_SECONDS.end(),
                "default": defaults.timeout_seconds,
            },
            "stdin": {
                "type": ["string", "null"],
                "description": told("stdin"),
                "maxLength": bounds::STDIN_BYTES,
            },
            "args": {
                "type": ["array", "null"],
                "description": told("args"),
                "maxItems": bounds::LIST_ITEMS,
                "items": {"type": "string", "maxLength": bounds::LIST_BYTES, "pattern": NO_NUL},
            },
            "env": {
                "type": ["object", "null"],
                "description": told("env"),
                "maxProperties": bounds::LIST_ITEMS,
                "propertyNames": {"pattern": VARIABLE, "maxLength": bounds::VARIABLE_BYTES},
                // A name has one character at least.
                "additionalProperties": {"type": "string", "maxLength": bounds::LIST_BYTES - 1, "pattern": NO_NUL},
            },
            "files": {
                "type": ["array", "null"],
                "description": told("files"),
                "maxItems": bounds::FILES,
                "uniqueItems": true,
                "items": file(),
            },
            "pool": {
                "type": ["string", "null"],
                "description": told("pool"),
                "minLength": 1,
                "maxLength": bounds::NAME_CHARS,
                "default": defaults.pool,
            },
        },
    })
}

fn file() -> Value {
    let file = schemars::schema_for!(codeexec_crds::InputFile).to_value();
    let told = |field: &str| file["properties"][field]["description"].clone();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["path", "content"],
        "properties": {
            "path": {
                "type": "string",
                "description": told("path"),
                "minLength": 1,
                "maxLength": bounds::PATH_BYTES,
                "pattern": PATH,
            },
            "content": {
                "type": "string",
                "description": told("content"),
                "contentEncoding": "base64",
                "maxLength": bounds::FILES_ENCODED_BYTES,
                "pattern": BASE64,
            },
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;
    use crate::http::body;

    /// Whether the server takes `hello` with this field.
    fn is_taken(field: &str, value: Value) -> bool {
        let mut request = json!({"code": "print('Hello')", "language": "python"});
        request[field] = value;
        let spec = body::parse(request.to_string().as_bytes());
        spec.is_ok_and(|spec| codeexec_execution::validate(&spec).is_ok())
    }

    fn number(schema: &Value, keyword: &str) -> usize {
        usize::try_from(schema[keyword].as_u64().unwrap()).unwrap()
    }

    fn text(length: usize) -> Value {
        "x".repeat(length).into()
    }

    #[test]
    fn what_the_schema_allows_at_most_is_taken_and_one_more_is_not() {
        let schema = schema();
        let fields = &schema["properties"];
        let longest = |field: &str| number(&fields[field], "maxLength");
        let most = |field: &str, keyword: &str| number(&fields[field], keyword);
        let args = |count| Value::from(vec!["x"; count]);
        let env = |count| (0..count).map(|at| (format!("X{at}"), text(1))).collect();
        let files = |count| {
            (0..count)
                .map(|at| json!({"path": format!("{at}"), "content": ""}))
                .collect()
        };
        let variable = |length| Value::Object([("X".repeat(length), text(1))].into_iter().collect());
        let path = |length| json!([{"path": text(length), "content": ""}]);
        let content = |length: usize| json!([{"path": "x", "content": "A".repeat(length)}]);
        let file = &fields["files"]["items"]["properties"];
        let (shortest_timeout, longest_timeout) = (most("timeout", "minimum"), most("timeout", "maximum"));
        for (field, taken, refused) in [
            ("code", text(longest("code")), text(longest("code") + 1)),
            ("code", text(number(&fields["code"], "minLength")), text(0)),
            ("timeout", longest_timeout.into(), (longest_timeout + 1).into()),
            ("timeout", shortest_timeout.into(), (shortest_timeout - 1).into()),
            ("stdin", text(longest("stdin")), text(longest("stdin") + 1)),
            (
                "args",
                args(most("args", "maxItems")),
                args(most("args", "maxItems") + 1),
            ),
            (
                "env",
                env(most("env", "maxProperties")),
                env(most("env", "maxProperties") + 1),
            ),
            (
                "env",
                variable(number(&fields["env"]["propertyNames"], "maxLength")),
                variable(number(&fields["env"]["propertyNames"], "maxLength") + 1),
            ),
            (
                "files",
                files(most("files", "maxItems")),
                files(most("files", "maxItems") + 1),
            ),
            (
                "files",
                path(number(&file["path"], "maxLength")),
                path(number(&file["path"], "maxLength") + 1),
            ),
            (
                "files",
                content(number(&file["content"], "maxLength")),
                // Base64 comes in fours.
                content(number(&file["content"], "maxLength") + 4),
            ),
            ("pool", text(longest("pool")), text(longest("pool") + 1)),
            ("pool", text(number(&fields["pool"], "minLength")), text(0)),
        ] {
            assert!(is_taken(field, taken), "{field} at its bound");
            assert!(!is_taken(field, refused), "{field} beyond its bound");
        }
    }

    #[test]
    fn the_schema_has_the_fields_of_the_parser_and_says_something_of_each() {
        let schema = schema();
        let fields = schema["properties"].as_object().unwrap();
        let mut known = body::FIELDS;
        known.sort_unstable();
        assert_eq!(fields.keys().collect::<Vec<_>>(), known);
        for (name, field) in fields {
            assert!(field["description"].is_string(), "{name}");
            let is_optional = field["type"]
                .as_array()
                .is_some_and(|types| types.contains(&json!("null")));
            if is_optional {
                assert!(is_taken(name, Value::Null), "{name}");
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_a_request_without_the_fields() {
        let schema = schema();
        let spec = body::parse(br#"{"code": "1", "language": "python"}"#).unwrap();
        assert_eq!(schema["properties"]["timeout"]["default"], spec.timeout_seconds);
        assert_eq!(schema["properties"]["pool"]["default"], spec.pool);
    }
}
