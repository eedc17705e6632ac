//! What stands in the log, whatever stands in the records.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use codeexec_audit::{Execution, MAX_CHARS, OFF_ELSEWHERE, Request, TARGET, layer};
use codeexec_crds::{
    CodeExecutionSpec, CodeExecutionStatus, Isolation, OutputBytes, Phase, Reason, ResultFile, Timings, Usage,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Longest line in bytes: as many of the longest characters (12 bytes as two `\u`) as its texts hold, and the rest.
const LONGEST: usize = 10 * (MAX_CHARS + 1) * 12 + 2048;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` leaves in a log of this level.
fn logged(level: &str, work: impl FnOnce()) -> String {
    let log = Log::default();
    let (lines, rest) = (log.clone(), log.clone());
    let filter = EnvFilter::new(level).add_directive(OFF_ELSEWHERE.parse().unwrap());
    let text = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || rest.clone());
    let subscriber = tracing_subscriber::registry()
        .with(text.with_filter(filter))
        .with(layer(move || lines.clone()));
    tracing::subscriber::with_default(subscriber, work);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn request(text: &str) -> Request {
    Request {
        peer: [192, 0, 2, 1].into(),
        client: None,
        user: Some(text.into()),
        via: Some("proxy"),
        method: text.into(),
        path: text.into(),
        status: 200,
        error_code: None,
        execution: Some(text.into()),
        code_sha256: Some(text.into()),
        policy_warnings: Some(text.into()),
        ms: 12,
    }
}

fn spec(text: &str) -> CodeExecutionSpec {
    CodeExecutionSpec {
        user: text.to_owned(),
        pool: text.to_owned(),
        ..CodeExecutionSpec::python("print('SECRET-code')")
    }
}

fn status(text: &str) -> CodeExecutionStatus {
    CodeExecutionStatus {
        phase: Some(Phase::Failed),
        reason: Some(Reason::NonZeroExit),
        exit_code: Some(3),
        output: Some("SECRET-output".to_owned()),
        stderr: Some("SECRET-stderr".to_owned()),
        error: Some("SECRET-error".to_owned()),
        files: Some(vec![ResultFile {
            path: "SECRET-path".to_owned(),
            content: "SECRET-content".to_owned(),
            ..ResultFile::default()
        }]),
        image_digest: Some(text.to_owned()),
        pod_name: Some(text.to_owned()),
        node_name: Some(text.to_owned()),
        isolation: Some(Isolation {
            runtime_class: Some(text.to_owned()),
            seccomp: true,
            landlock_abi: 5,
            ..Isolation::default()
        }),
        timings: Some(Timings {
            run_ms: 40,
            ..Timings::default()
        }),
        output_bytes: Some(OutputBytes { stdout: 7, stderr: 8 }),
        usage: Some(Usage {
            vcpu_seconds: 0.02,
            ..Usage::default()
        }),
        ..CodeExecutionStatus::default()
    }
}

/// The text as a line holds it.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The only line of a log, which is printable, bounded and says who it is from.
fn only_line(log: &str) -> Value {
    let line = log
        .strip_suffix('\n')
        .unwrap_or_else(|| panic!("no line: {log:?}"));
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
    assert!(line.len() <= LONGEST, "{} bytes", line.len());
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    assert_eq!(
        (&value["target"], &value["level"]),
        (&json!(TARGET), &json!("INFO"))
    );
    assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    value
}

#[test]
fn an_execution_s_line_says_how_it_ended_and_nothing_of_what_it_ran_or_printed() {
    let log = logged("info", || {
        Execution::ended("cex-1", "uid-1", &spec("alice"), &status("some")).write();
    });
    assert!(!log.contains("SECRET"), "{log}");
    let mut line = only_line(&log);
    line.as_object_mut().unwrap().remove("timestamp");
    let expected = json!({
        "level": "INFO", "target": "audit", "event": "execution",
        "execution": "cex-1", "uid": "uid-1", "user": "alice", "pool": "alice",
        "phase": "Failed", "reason": "NonZeroExit", "exit_code": 3,
        "code_sha256": codeexec_execution::code_sha256("print('SECRET-code')"),
        "image_digest": "some", "pod": "some", "node": "some",
        "runtime_class": "some", "user_namespace": false, "seccomp": true, "landlock_abi": 5,
        "no_new_privileges": false, "network_kubernetes_api": "unknown", "network_metadata": "unknown",
        "network_dns": "unknown",
        "queue_ms": 0, "start_ms": 0, "claim_ms": 0, "run_ms": 40, "collect_ms": 0, "total_ms": 0,
        "stdout_bytes": 7, "stderr_bytes": 8,
        "cpu_ms": 0, "peak_memory_bytes": 0, "vcpu_seconds": 0.02, "cost": 0.0,
    });
    assert_eq!(line, expected);
}

#[test]
fn one_that_never_ran_or_was_deleted_has_a_line_of_what_is_known() {
    let rejected = CodeExecutionStatus {
        phase: Some(Phase::Failed),
        reason: Some(Reason::Rejected),
        ..CodeExecutionStatus::default()
    };
    let line = only_line(&logged("info", || {
        Execution::ended("a", "u", &spec("alice"), &rejected).write();
    }));
    assert_eq!(
        (&line["reason"], &line["user"]),
        (&json!("Rejected"), &json!("alice"))
    );
    assert!(
        line["code_sha256"].is_string() && line.get("pod").is_none(),
        "{line}"
    );
    let line = only_line(&logged("info", || {
        Execution::deleted("a", "u", &spec("alice")).write();
    }));
    assert_eq!((&line["phase"], &line["uid"]), (&json!("Deleted"), &json!("u")));
    assert!(
        line["code_sha256"].is_string() && line.get("reason").is_none(),
        "{line}"
    );
    let line = only_line(&logged("info", || Execution::unreadable("a", "u").write()));
    assert_eq!(
        (&line["phase"], &line["reason"]),
        (&json!("Failed"), &json!("Rejected"))
    );
    assert!(line.get("user").is_none(), "{line}");
}

#[test]
fn a_digest_that_came_late_stands_in_the_line() {
    let line = only_line(&logged("info", || {
        let line = Execution::ended("a", "u", &spec("alice"), &CodeExecutionStatus::default());
        line.with_image_digest("image@sha256:0").write();
    }));
    assert_eq!(line["image_digest"], "image@sha256:0");
}

#[test]
fn no_level_or_filter_of_the_log_silences_the_trail_or_doubles_it() {
    for level in ["off", "error", "info", "trace", "audit=trace", "info,audit=off"] {
        only_line(&logged(level, || request("alice").write()));
    }
}

/// What begins lines, moves cursors, turns the direction of writing, or is not seen.
const NASTY: [&str; 9] = [
    "a\n{\"target\":\"audit\",\"event\":\"request\",\"user\":\"root\"}\n",
    "\",\"user\":\"root\",\"x\":\"",
    "\\",
    "\r\u{1b}[2K\u{1b}]0;title\u{7}\u{9b}31m\u{8}\u{7f}\u{0}",
    "\u{85}\u{2028}\u{2029}\u{b}\u{c}",
    "gnp.\u{202e}exe\u{2066}\u{2069}\u{200f}\u{61c}",
    "\u{200b}\u{feff}\u{2060}\u{e0041}\u{fffe}",
    "а\u{430}dmin\u{301}", // Cyrillic
    "😀\u{10ffff}",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        proptest::sample::select(NASTY.to_vec()).prop_map(str::to_owned),
        "[a-z]{0,300}",
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_stands_in_a_request_it_is_one_line_with_the_fields(text in text()) {
        let line = only_line(&logged("info", || request(&text).write()));
        for field in ["user", "method", "path", "execution", "code_sha256", "policy_warnings"] {
            prop_assert_eq!(&line[field], &json!(shown(&text)));
        }
        prop_assert_eq!(&line["event"], &json!("request"));
        prop_assert_eq!(line.as_object().unwrap().len(), 4 + 10);
    }

    #[test]
    fn whatever_stands_in_an_execution_it_is_one_line_with_the_fields(text in text()) {
        let line = only_line(&logged("info", || {
            Execution::ended(&text, &text, &spec(&text), &status(&text)).write();
        }));
        for field in ["execution", "uid", "user", "pool", "image_digest", "pod", "node", "runtime_class"] {
            prop_assert_eq!(&line[field], &json!(shown(&text)));
        }
        prop_assert_eq!(&line["event"], &json!("execution"));
    }
}
