//! Bad requests: a 4xx that names the field, never a 500, and no CodeExecution left behind.

use anyhow::Result;
use codeexec_e2e::{Cluster, unique};
use kube::api::ListParams;
use serde_json::{Value, json};

/// One request that must be refused.
struct Bad {
    what: &'static str,
    body: Vec<u8>,
    status: u16,
    /// What the message has to hold, in lower case.
    names: &'static str,
}

fn bytes(what: &'static str, body: impl Into<Vec<u8>>, status: u16, names: &'static str) -> Bad {
    Bad {
        what,
        body: body.into(),
        status,
        names,
    }
}

/// A good request with some fields changed; `marker` stands in its code.
fn changed(marker: &str, what: &'static str, fields: &Value, status: u16, names: &'static str) -> Bad {
    let mut body = json!({"code": format!("print('{marker}')"), "language": "python"});
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    bytes(what, body.to_string(), status, names)
}

fn fields_of_the_wrong_kind(marker: &str) -> Vec<Bad> {
    let bad = |what, fields: Value, names| changed(marker, what, &fields, 400, names);
    vec![
        bad("null code", json!({"code": null}), "code is required"),
        bad("empty code", json!({"code": ""}), "code is required"),
        bad("blank code", json!({"code": " \n\t "}), "code is required"),
        bad("code that is a number", json!({"code": 5}), "code"),
        bad("code that is a list", json!({"code": ["print(1)"]}), "code"),
        bad("code that is an object", json!({"code": {}}), "code"),
        bad(
            "null language",
            json!({"language": null}),
            "only python is supported currently",
        ),
        bad(
            "another language",
            json!({"language": "ruby"}),
            "only python is supported currently",
        ),
        bad(
            "a language in capitals",
            json!({"language": "PYTHON"}),
            "only python is supported currently",
        ),
        bad(
            "a language that is a number",
            json!({"language": 3}),
            "only python is supported currently",
        ),
        bad("a timeout that is text", json!({"timeout": "5"}), "timeout"),
        bad("a timeout that is true", json!({"timeout": true}), "timeout"),
        bad("stdin that is a number", json!({"stdin": 1}), "stdin"),
        bad("args that are text", json!({"args": "a"}), "args"),
        bad("an arg that is a number", json!({"args": ["a", 1]}), "args[1]"),
        bad("env that is a list", json!({"env": ["A=1"]}), "env"),
        bad("a variable that is a number", json!({"env": {"A": 1}}), "env"),
        bad(
            "files that are an object",
            json!({"files": {"a": "aGk="}}),
            "files",
        ),
        bad("a file that is text", json!({"files": ["a"]}), "files[0]"),
        bad(
            "a file without content",
            json!({"files": [{"path": "a"}]}),
            "files[0].content",
        ),
        bad("a pool that is a number", json!({"pool": 1}), "pool"),
        bad("an unknown field", json!({"colour": "red"}), "colour"),
        bad(
            "the resource's name of a field",
            json!({"timeoutSeconds": 5}),
            "timeoutseconds",
        ),
        bad(
            "an unknown field of a file",
            json!({"files": [{"path": "a", "content": "aGk=", "mode": 7}]}),
            "files[0].mode",
        ),
    ]
}

fn values_beyond_their_bounds(marker: &str) -> Vec<Bad> {
    let bad = |what, fields: Value, names| changed(marker, what, &fields, 400, names);
    let file = |path: &str| json!({"files": [{"path": path, "content": "aGk="}]});
    vec![
        bad("a timeout of 0", json!({"timeout": 0}), "timeout"),
        bad("a negative timeout", json!({"timeout": -1}), "timeout"),
        bad("a fractional timeout", json!({"timeout": 1.5}), "timeout"),
        bad("a timeout of 31", json!({"timeout": 31}), "timeout"),
        bad("an enormous timeout", json!({"timeout": 1e300}), "timeout"),
        bad(
            "10,001 characters",
            json!({"code": format!("# {marker}{}", "x".repeat(10_001))}),
            "code",
        ),
        bad(
            "stdin of 65,537 bytes",
            json!({"stdin": "x".repeat(65_537)}),
            "stdin",
        ),
        bad("65 args", json!({"args": vec!["a"; 65]}), "args"),
        bad(
            "args of 32,769 bytes",
            json!({"args": ["x".repeat(32_769)]}),
            "args",
        ),
        bad("an arg with a NUL", json!({"args": ["a\0b"]}), "args[0]"),
        bad("a variable without a name", json!({"env": {"": "1"}}), "env"),
        bad(
            "a variable that begins with a digit",
            json!({"env": {"1A": "1"}}),
            "env.1a",
        ),
        bad(
            "a variable with = in its name",
            json!({"env": {"A=B": "1"}}),
            "env.a=b",
        ),
        bad(
            "env of 32,769 bytes",
            json!({"env": {"A": "x".repeat(32_768)}}),
            "env",
        ),
        bad("an absolute path", file("/etc/passwd"), "files[0].path"),
        bad("a path that climbs", file("../x"), "files[0].path"),
        bad("a path that climbs later", file("a/../../x"), "files[0].path"),
        bad("a path with an empty part", file("a//b"), "files[0].path"),
        bad("a path with a dot", file("./a"), "files[0].path"),
        bad("an empty path", file(""), "files[0].path"),
        bad("a path with a NUL", file("a\0b"), "files[0].path"),
        bad("a path of 256 bytes", file(&"é".repeat(128)), "files[0].path"),
        bad(
            "content that is not base64",
            json!({"files": [{"path": "a", "content": "?"}]}),
            "files[0].content",
        ),
        bad(
            "the same path twice",
            json!({"files": [{"path": "a", "content": ""}, {"path": "a", "content": ""}]}),
            "files[1].path",
        ),
        bad(
            "files of more than 256 KiB",
            json!({"files": [{"path": "a", "content": "A".repeat(262_148)}]}),
            "files",
        ),
        bad("a pool without a name", json!({"pool": ""}), "pool"),
        bad(
            "a pool with a name that is too long",
            json!({"pool": "x".repeat(254)}),
            "pool",
        ),
    ]
}

fn bodies_that_are_no_request(marker: &str) -> Vec<Bad> {
    let mut invalid_utf8 = format!("{{\"language\":\"python\",\"code\":\"# {marker}").into_bytes();
    invalid_utf8.extend(b"\xff\xfe\"}");
    let with = |tail: &str| format!("{{\"language\":\"python\",\"code\":\"# {marker}{tail}");
    vec![
        bytes("nothing", "", 400, "body"),
        bytes("not JSON", marker, 400, "json"),
        bytes("half of a JSON object", with("\""), 400, "json"),
        bytes("more than one JSON object", with("\"} {}"), 400, "json"),
        bytes("a JSON list", format!("[\"{marker}\"]"), 400, "json"),
        bytes("a JSON string", format!("\"{marker}\""), 400, "json"),
        bytes("JSON null", "null", 400, "json"),
        bytes("an empty object", "{}", 400, "code is required"),
        bytes("no code", "{\"language\":\"python\"}", 400, "code is required"),
        bytes(
            "no language",
            format!("{{\"code\":\"print('{marker}')\"}}"),
            400,
            "only python is supported currently",
        ),
        bytes("invalid UTF-8", invalid_utf8, 400, "utf-8"),
        bytes("a lone surrogate", with("\\ud800\"}"), 400, "code"),
        bytes("code twice", with("\",\"code\":\"print(2)\"}"), 400, "code"),
        bytes(
            "deep JSON",
            with(&format!("\",\"args\":{}", "[".repeat(100_000))),
            400,
            "json",
        ),
        bytes(
            "a body over the limit",
            with(&format!("{}\"}}", "x".repeat(3_000_000))),
            413,
            "body",
        ),
    ]
}

#[tokio::test]
async fn bad_requests_are_answered_with_a_4xx_that_names_the_field_and_leave_nothing_behind() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let marker = unique("refused");
    let mut wrong = Vec::new();
    let all = [
        fields_of_the_wrong_kind(&marker),
        values_beyond_their_bounds(&marker),
        bodies_that_are_no_request(&marker),
    ];
    for Bad {
        what,
        body,
        status,
        names,
    } in all.into_iter().flatten()
    {
        let answer = cluster.post_bytes(body, "application/json").await?;
        let message = answer.body["error"].as_str().unwrap_or_default().to_lowercase();
        let code = answer.body["code"].as_str().unwrap_or_default();
        if answer.status != status || !message.contains(names) || code.is_empty() {
            wrong.push(format!("{what}: HTTP {} {}", answer.status, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let left: Vec<_> = cluster
        .executions()
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter(|execution| execution.spec.code.contains(&marker))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn the_plans_texts_are_exact() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for (body, text) in [
        (json!({"language": "python"}), "Code is required"),
        (json!({"code": "  ", "language": "python"}), "Code is required"),
        (
            json!({"code": "print(1)", "language": "javascript"}),
            "Only Python is supported currently",
        ),
    ] {
        let answer = cluster.post(&body).await?;
        assert_eq!(
            (answer.status, &answer.body["error"]),
            (400, &json!(text)),
            "{body}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_refused() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let body = json!({"code": "print(1)", "language": "python"}).to_string();
    let answer = cluster.post_bytes(body.into_bytes(), "text/plain").await?;
    assert_eq!(answer.status, 415, "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn an_unknown_pool_is_no_fault_of_the_platform() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let body = json!({"code": "print(1)", "language": "python", "pool": unique("no-such-pool")});
    let answer = cluster.post(&body).await?;
    assert!(
        (400..500).contains(&answer.status),
        "HTTP {}: {}",
        answer.status,
        answer.body
    );
    assert!(
        answer.body["error"].as_str().unwrap_or_default().contains("pool"),
        "{}",
        answer.body
    );
    Ok(())
}

#[tokio::test]
async fn whole_numbers_may_be_written_with_a_point() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let body = json!({"code": "print(1)", "language": "python", "timeout": 30.0});
    assert_eq!(cluster.post(&body).await?.ok()?["output"], "1\n");
    Ok(())
}
