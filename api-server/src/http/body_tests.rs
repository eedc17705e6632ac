use super::*;

fn refusal(body: impl AsRef<[u8]>) -> String {
    parse(body.as_ref()).map_or_else(|error| error.to_string(), |_| "accepted".to_owned())
}

/// A good body with more fields.
fn with(fields: &str) -> String {
    format!(r#"{{"code": "print(1)", "language": "python", {fields}}}"#)
}

#[test]
fn a_body_with_every_field_becomes_its_spec() {
    let spec = parse(
        with(
            r#""timeout": 5, "stdin": "in", "args": ["a", "b"], "env": {"A": "1", "B": ""},
               "files": [{"content": "aGk=", "path": "a.txt"}], "pool": "big""#,
        )
        .as_bytes(),
    )
    .unwrap();
    assert_eq!(spec.code, "print(1)");
    assert_eq!((spec.timeout_seconds, spec.pool.as_str()), (5, "big"));
    assert_eq!(spec.stdin.as_deref(), Some("in"));
    assert_eq!(spec.args.unwrap(), ["a", "b"]);
    let env = spec.env.unwrap();
    assert_eq!((env[0].name.as_str(), env[1].value.as_str()), ("A", ""));
    assert_eq!(spec.files.unwrap()[0].path, "a.txt");
}

#[test]
fn absent_and_null_mean_the_default() {
    let plain = parse(br#"{"code": "print(1)", "language": "python"}"#).unwrap();
    assert_eq!(plain, CodeExecutionSpec::python("print(1)"));
    let nulls =
        with(r#""timeout": null, "stdin": null, "args": null, "env": null, "files": null, "pool": null"#);
    assert_eq!(parse(nulls.as_bytes()).unwrap(), plain);
}

#[test]
fn the_texts_of_the_plan_are_exact() {
    for body in [
        r#"{}"#,
        r#"{"code": null}"#,
        r#"{"code": "", "language": "python"}"#,
        r#"{"code": " \n\t\u00a0", "language": "python"}"#,
        r#"{"language": "ruby"}"#,
        r#"{"language": "python", "timeout": 0, "nonsense": 1}"#,
    ] {
        assert_eq!(refusal(body), "Code is required", "{body}");
    }
    for body in [
        r#"{"code": "1"}"#,
        r#"{"code": "1", "language": null}"#,
        r#"{"code": "1", "language": "Python"}"#,
        r#"{"code": "1", "language": 3}"#,
        r#"{"nonsense": 1, "timeout": 0, "code": "1", "language": "javascript"}"#,
    ] {
        assert_eq!(refusal(body), "Only Python is supported currently", "{body}");
    }
}

#[test]
fn code_of_another_type_is_told_so() {
    for code in ["1", "true", "[]", "{}"] {
        let body = format!(r#"{{"code": {code}, "language": "python"}}"#);
        assert_eq!(refusal(body), "code must be a string");
    }
}

#[test]
fn a_timeout_is_a_whole_number_of_seconds() {
    for (text, seconds) in [("1", 1), ("30", 30), ("30.0", 30), ("3e1", 30)] {
        let spec = parse(with(&format!(r#""timeout": {text}"#)).as_bytes()).unwrap();
        assert_eq!(spec.timeout_seconds, seconds, "{text}");
    }
    for text in [
        "0",
        "-1",
        "-0.0",
        "0.5",
        "30.5",
        "31",
        "1e300",
        "99999999999999999999",
        r#""30""#,
        "true",
        "[]",
        "{}",
    ] {
        assert_eq!(
            refusal(with(&format!(r#""timeout": {text}"#))),
            "timeout must be a whole number of seconds from 1 to 30",
            "{text}"
        );
    }
    // Beyond what JSON readers can hold at all; the message still names the field.
    assert!(refusal(with(r#""timeout": 1e999"#)).ends_with("in timeout"));
}

#[test]
fn wrong_types_and_unknown_fields_are_named() {
    for (fields, message) in [
        (r#""stdin": 1"#, "stdin must be a string"),
        (r#""pool": {}"#, "pool must be a string"),
        (r#""args": "a""#, "args must be a list of strings"),
        (r#""args": ["a", 1]"#, "args[1] must be a string"),
        (r#""args": [null]"#, "args[0] must be a string"),
        (r#""env": []"#, "env must be an object of strings"),
        (r#""env": {"FOO": 1}"#, "env.FOO must be a string"),
        (r#""env": {"FOO": null}"#, "env.FOO must be a string"),
        (r#""files": {}"#, "files must be a list of objects"),
        (r#""files": ["a"]"#, "files[0] must be an object"),
        (r#""files": [{"path": "a"}]"#, "files[0].content is required"),
        (r#""files": [{"content": ""}]"#, "files[0].path is required"),
        (
            r#""files": [{"path": "a", "content": 1}]"#,
            "files[0].content must be a string",
        ),
        (
            r#""files": [{"path": "a", "content": "", "mode": 1}]"#,
            "files[0].mode is not a known field",
        ),
        (r#""timeoutSeconds": 1"#, "timeoutSeconds is not a known field"),
        (r#""user": "root""#, "user is not a known field"),
        (r#""": 1"#, r#""" is not a known field"#),
        (r#""a\u0000\n": 1"#, r"a\0\n is not a known field"),
    ] {
        assert_eq!(refusal(with(fields)), message, "{fields}");
    }
    let long = refusal(with(&format!(r#""{}": 1"#, "x".repeat(100_000))));
    assert!(long.len() < 200);
}

#[test]
fn a_key_given_twice_is_refused_wherever_it_stands() {
    for (fields, message) in [
        (r#""code": "2""#, "code must be given once"),
        (r#""env": {"A": "1", "\u0041": "2"}"#, "env.A must be given once"),
        (
            r#""files": [{"path": "a", "path": "b"}]"#,
            "files[0].path must be given once",
        ),
        (r#""other": {"a": 1, "a": 1}"#, "other.a must be given once"),
    ] {
        assert_eq!(refusal(with(fields)), message, "{fields}");
    }
}

#[test]
fn what_is_not_json_is_refused_with_the_place() {
    assert_eq!(refusal(""), "the request body is empty; it must be a JSON object");
    assert_eq!(
        refusal(b"{\"code\": \"\xff\"}"),
        "the request body is not UTF-8 (byte 10)"
    );
    for (body, part) in [
        ("   ", "EOF"),
        ("print(1)", "expected value"),
        ("{", "EOF"),
        (r#"{"code": "1",}"#, "trailing comma"),
        (r#"{"code": "1"} {}"#, "trailing characters"),
        (r#"{"code": "\ud800", "language": "python"}"#, "surrogate"),
        (r#"{"code": "\udc00", "language": "python"}"#, "surrogate"),
        ("{\"code\": \"a\nb\"}", "control character"),
        (r#"{"code": NaN}"#, "expected value"),
        ("\u{feff}{}", "expected value"),
    ] {
        let message = refusal(body);
        assert!(
            message.starts_with("the request body is not valid JSON: "),
            "{body}: {message}"
        );
        assert!(message.contains(part), "{body}: {message}");
    }
    for body in ["null", "1", "[]", r#""x""#, "true"] {
        assert_eq!(refusal(body), "the request body must be a JSON object");
    }
}

#[test]
fn nesting_and_numbers_of_values_are_bounded() {
    for deep in ["[".repeat(100_000), r#"{"a":"#.repeat(100_000)] {
        assert!(refusal(deep).contains("recursion limit"));
    }
    let deep_and_whole = with(&format!(r#""args": {}{}"#, "[".repeat(1000), "]".repeat(1000)));
    assert!(refusal(deep_and_whole).contains("recursion limit"));
    let many = with(&format!(r#""args": [{}0]"#, "0,".repeat(1_000_000)));
    assert_eq!(refusal(many), "the request body holds more than 4096 values");
}
