//! What holds of every body that is sent to `POST /api/execute`. `PROPTEST_CASES` makes it look longer.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

// Both sides of the same promise are tested with the same specs.
#[path = "../../execution/tests/specs/mod.rs"]
mod specs;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{Request, header};
use clap::Parser;
use codeexec_api::backend::{End, Job};
use codeexec_api::settings::Settings;
use codeexec_crds::{CodeExecution, CodeExecutionSpec, CodeExecutionStatus, Phase, Reason};
use codeexec_execution::validate;
use futures::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

mod common;
#[path = "common/only.rs"]
mod only;

use only::{Only, Runs};

const FIELDS: [&str; 8] = [
    "code", "language", "timeout", "stdin", "args", "env", "files", "pool",
];

/// Longest that a message should be, whatever a client sends.
const MESSAGE_CHARS: usize = 1000;

/// Keeps what it was to run.
#[derive(Default)]
struct Keeping(Mutex<Option<CodeExecutionSpec>>);

impl Runs for Keeping {
    fn run(&self, job: Job) -> End {
        *self.0.lock().unwrap() = Some(job.spec);
        let end = async {
            Ok(CodeExecutionStatus {
                phase: Some(Phase::Succeeded),
                reason: Some(Reason::Completed),
                ..CodeExecutionStatus::default()
            })
        };
        end.boxed()
    }
}

/// The whole way of a request, but for the network and what would run it.
struct Server {
    runtime: Runtime,
    router: Router,
    backend: Arc<Keeping>,
}

/// What became of a request.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
    /// What would run.
    spec: Option<CodeExecutionSpec>,
}

impl Server {
    fn new() -> Self {
        let backend = Arc::new(Keeping::default());
        let settings = Settings::parse_from(["codeexec-api", "--rate-limit", "0"]);
        let app = common::app(Arc::new(Only(backend.clone())), &settings);
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            router: app
                .router()
                .layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711)))),
            backend,
        }
    }

    fn post(&self, body: impl Into<Body>) -> Answer {
        let request = Request::post("/api/execute")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into())
            .unwrap();
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            Answer {
                status,
                body: serde_json::from_slice(&bytes).unwrap(),
                spec: self.backend.0.lock().unwrap().take(),
            }
        })
    }
}

impl Answer {
    /// The message of a refusal, in the one shape that refusals have.
    fn refusal(&self) -> Result<&str, TestCaseError> {
        prop_assert_eq!(self.status, 400, "{}", self.body);
        prop_assert_eq!(&self.body["code"], "invalid_request");
        prop_assert_eq!(&self.spec, &None);
        let message = self.body["error"].as_str().unwrap_or_default();
        prop_assert!(
            message.chars().count() <= MESSAGE_CHARS,
            "{} bytes",
            message.len()
        );
        Ok(message)
    }
}

/// Whether a message tells what to change: the body as a whole, or a field.
fn tells_what_is_wrong(message: &str) -> bool {
    let names_a_field = || {
        let name = message.split([' ', '.', '[']).next().unwrap_or_default();
        FIELDS.contains(&name)
    };
    [
        "the request body ",
        "Code is required",
        "Only Python is supported currently",
    ]
    .iter()
    .any(|known| message.starts_with(known))
        || names_a_field()
        || message.ends_with(" is not a known field")
        || message.ends_with(" must be given once")
}

/// How a client writes JSON.
#[derive(Clone, Debug)]
struct Style {
    /// Puts the fields into another order.
    order: Vec<Index>,
    /// Writes everything but ASCII as escapes, as Python does.
    ascii: bool,
    /// Writes 30 as 30.0, as languages do that have one kind of number.
    floats: bool,
    /// Writes fields that are not given as null.
    nulls: bool,
    space: &'static str,
}

fn style() -> impl Strategy<Value = Style> {
    (
        vec(any::<Index>(), FIELDS.len()),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        select(vec!["", " ", "\r\n\t"]),
    )
        .prop_map(|(order, ascii, floats, nulls, space)| Style {
            order,
            ascii,
            floats,
            nulls,
            space,
        })
}

impl Style {
    fn text(&self, text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        if !self.ascii {
            return quoted;
        }
        let mut units = [0; 2];
        quoted
            .chars()
            .map(|char| match char {
                '\0'..='\x7f' => char.to_string(),
                other => other
                    .encode_utf16(&mut units)
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect(),
            })
            .collect()
    }

    fn list(&self, items: impl Iterator<Item = String>) -> String {
        let items: Vec<String> = items.collect();
        format!("[{}]", items.join(&format!(",{}", self.space)))
    }

    /// By hand, because a map would drop what is given twice.
    fn object<'a>(&self, fields: impl Iterator<Item = (&'a str, String)>) -> String {
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{0}{1}:{0}{value}", self.space, self.text(name)))
            .collect();
        format!("{{{}{}}}", fields.join(","), self.space)
    }

    /// The fields of a body that asks for this.
    fn fields(&self, spec: &CodeExecutionSpec) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("code", self.text(&spec.code)),
            ("language", self.text("python")),
            (
                "timeout",
                format!("{}{}", spec.timeout_seconds, if self.floats { ".0" } else { "" }),
            ),
            ("pool", self.text(&spec.pool)),
        ];
        let optional = [
            ("stdin", spec.stdin.as_ref().map(|stdin| self.text(stdin))),
            (
                "args",
                spec.args
                    .as_ref()
                    .map(|args| self.list(args.iter().map(|arg| self.text(arg)))),
            ),
            (
                "env",
                spec.env.as_ref().map(|env| {
                    self.object(
                        env.iter()
                            .map(|variable| (variable.name.as_str(), self.text(&variable.value))),
                    )
                }),
            ),
            (
                "files",
                spec.files.as_ref().map(|files| {
                    self.list(files.iter().map(|file| {
                        let fields = [("path", &file.path), ("content", &file.content)];
                        self.object(fields.into_iter().map(|(name, text)| (name, self.text(text))))
                    }))
                }),
            ),
        ];
        let absent = || self.nulls.then(|| "null".to_owned());
        fields.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.or_else(absent)?))),
        );
        for (at, to) in self.order.iter().enumerate().take(fields.len()) {
            let to = to.index(fields.len());
            fields.swap(at, to);
        }
        fields
    }

    fn body(&self, spec: &CodeExecutionSpec) -> String {
        self.object(self.fields(spec).into_iter())
    }
}

/// JSON of all kinds, with the names that a body has.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("python")),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        let name = prop_oneof![
            4 => select(FIELDS.to_vec()).prop_map(str::to_owned),
            1 => select(vec!["path", "content"]).prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        prop_oneof![
            1 => vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => vec((name, inner), 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A body that was damaged on its way.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), any::<Index>(), vec(any::<u8>(), 0..3));
    (specs::valid(), style(), vec(change, 1..4)).prop_map(|(spec, style, changes)| {
        let mut body = style.body(&spec).into_bytes();
        for (from, to, bytes) in changes {
            let (from, to) = (from.index(body.len() + 1), to.index(body.len() + 1));
            // Mostly a few bytes, sometimes a large part.
            let to = if bytes.is_empty() {
                from.max(to)
            } else {
                body.len().min(from + bytes.len())
            };
            body.splice(from..to, bytes);
        }
        body
    })
}

/// What a client can't give for this field.
fn of_another_type(field: &str) -> &'static [&'static str] {
    match field {
        "code" => &["1", "true", "[]", "{}", "[\"print(1)\"]"],
        "language" => &["null", "1", "[\"python\"]", "\"Python\"", "\"\"", "{}"],
        "timeout" => &[
            "\"5\"",
            "1.5",
            "1e300",
            "-0.0",
            "true",
            "[5]",
            "{}",
            "99999999999999999999",
        ],
        "stdin" | "pool" => &["1", "false", "[]", "{\"a\": \"b\"}"],
        "args" => &["\"a\"", "{}", "1", "[1]", "[null]", "[[]]"],
        "env" => &["\"a\"", "[]", "1", "{\"A\": 1}", "{\"A\": null}", "[\"A=1\"]"],
        _ => &[
            "\"a\"",
            "{}",
            "[null]",
            "[{}]",
            "[{\"path\": \"a\"}]",
            "[{\"path\": 1, \"content\": \"\"}]",
            "[{\"path\": \"a\", \"content\": \"\", \"mode\": 1}]",
        ],
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_gets_an_answer_that_says_what_is_wrong_with_it(
        body in prop_oneof![
            vec(any::<u8>(), 0..300),
            any::<String>().prop_map(String::into_bytes),
            tree().prop_map(|tree| tree.to_string().into_bytes()),
            damaged(),
        ],
    ) {
        let answer = Server::new().post(body);
        if answer.status == 200 {
            let spec = answer.spec.unwrap();
            prop_assert_eq!(validate(&spec), Ok(()));
        } else {
            let message = answer.refusal()?;
            prop_assert!(tells_what_is_wrong(message), "{}", message);
        }
    }

    #[test]
    fn every_good_request_is_accepted_as_it_is_meant_and_by_the_operator_too(
        spec in specs::valid(),
        style in style(),
    ) {
        // What the API does not let clients choose.
        let plain = CodeExecutionSpec::python("");
        let spec = CodeExecutionSpec {
            user: "anonymous:127.0.0.1".to_owned(),
            cancel: plain.cancel,
            ttl_seconds_after_finished: plain.ttl_seconds_after_finished,
            ..spec
        };
        let answer = Server::new().post(style.body(&spec));
        prop_assert_eq!(answer.status, 200, "{}", answer.body);
        let accepted = answer.spec.unwrap();
        prop_assert_eq!(&accepted, &spec);

        let stored = serde_json::to_vec(&CodeExecution::new("x", accepted)).unwrap();
        let read: CodeExecution = serde_json::from_slice(&stored).unwrap();
        prop_assert_eq!(validate(&read.spec), Ok(()));
    }

    #[test]
    fn a_request_that_breaks_one_bound_is_refused_by_the_field_s_name(
        (field, spec) in specs::broken(),
        style in style(),
    ) {
        let answer = Server::new().post(style.body(&spec));
        let message = answer.refusal()?;
        let is_named = message.strip_prefix(field.as_str()).is_some_and(|rest| field.ends_with('.') || rest.starts_with(' '));
        let is_blank = message == "Code is required" && field == "code" && spec.code.trim().is_empty();
        prop_assert!(is_named || is_blank, "{} instead of {}", message, field);
    }

    #[test]
    fn a_field_of_another_type_is_refused_by_its_name(
        spec in specs::valid(),
        style in style(),
        field in select(FIELDS.to_vec()),
        which in any::<Index>(),
    ) {
        let wrong = which.get(of_another_type(field)).to_owned();
        let mut fields = style.fields(&spec);
        fields.retain(|(name, _)| *name != field);
        fields.push((field, wrong.to_owned()));
        let answer = Server::new().post(style.object(fields.into_iter()));
        let message = answer.refusal()?;
        let expected = if field == "language" { "Only Python is supported currently" } else { field };
        prop_assert!(message.starts_with(expected), "{} for {}", message, wrong);
    }

    #[test]
    fn a_field_too_many_is_refused_by_its_name(
        spec in specs::valid(),
        style in style(),
        name in "[a-zA-Z_]{1,30}",
        is_known in any::<bool>(),
        which in any::<Index>(),
    ) {
        let mut fields: Vec<(&str, String)> = style.fields(&spec);
        let name = if is_known { which.get(&fields).0 } else { name.as_str() };
        let twice = fields.iter().any(|(field, _)| *field == name);
        // Absent fields of a known name are no fault.
        prop_assume!(twice || !FIELDS.contains(&name));
        fields.push((name, "null".to_owned()));
        let answer = Server::new().post(style.object(fields.into_iter()));
        let rule = if twice { "must be given once" } else { "is not a known field" };
        prop_assert_eq!(answer.refusal()?, format!("{name} {rule}"));
    }
}
