//! `/api/executions/{id}/events`.

use codeexec_runner::frames::{Output, Stream};

use super::*;

const USER: &str = "anonymous:127.0.0.1";

/// An event: its name, id and data.
type Told = (String, Option<String>, Value);

fn printed(seq: u64, stream: Stream, data: &str) -> Progress {
    Progress::Printed(Output {
        stream,
        seq,
        data: data.to_owned(),
    })
}

/// One execution that goes on like this.
fn going_on(answer: fn() -> Result<CodeExecutionStatus, BackendError>) -> Server {
    let server = server(answer, Ok(()));
    server.backend.add("cex-runs", USER, Phase::Running);
    *server.backend.progress.lock().unwrap() = vec![
        Progress::Queued { position: Some(2) },
        Progress::Started {
            at: "2026-01-31T12:00:01Z".parse().ok(),
        },
        printed(0, Stream::Stdout, "a\nb"),
        printed(1, Stream::Stderr, "c"),
    ];
    server
}

async fn follow(server: &Server, id: &str, last: Option<&str>) -> (Answer, Vec<Told>) {
    let mut asked = request("GET", &format!("/api/executions/{id}/events"), "", "");
    if let Some(last) = last {
        asked.headers_mut().insert("last-event-id", last.parse().unwrap());
    }
    let response = server.router.clone().oneshot(asked).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    let told = text.split_terminator("\n\n").filter_map(told).collect();
    (
        Answer {
            status,
            body,
            headers,
        },
        told,
    )
}

fn told(event: &str) -> Option<Told> {
    let field = |name: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(str::to_owned).next()
    };
    let data = serde_json::from_str(&field("data: ")?).unwrap();
    Some((field("event: ")?, field("id: "), data))
}

#[tokio::test]
async fn an_execution_is_told_as_it_goes_on_and_its_result_comes_last() {
    let server = going_on(succeeded);
    let (answer, told) = follow(&server, "cex-runs", None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(answer.headers["x-accel-buffering"], "no");
    let names: Vec<_> = told.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["queued", "started", "output", "output", "result"]);
    assert_eq!(told[0].2, json!({"id": "cex-runs", "queuePosition": 2}));
    assert_eq!(
        told[1].2,
        json!({"id": "cex-runs", "startedAt": "2026-01-31T12:00:01Z"})
    );
    let (_, id, data) = &told[2];
    assert_eq!(
        (id.as_deref(), data),
        (Some("0"), &json!({"stream": "stdout", "data": "a\nb"}))
    );
    let (_, id, data) = &told[3];
    assert_eq!(
        (id.as_deref(), data),
        (Some("1"), &json!({"stream": "stderr", "data": "c"}))
    );
    let (_, id, data) = &told[4];
    assert_eq!((id, &data["id"]), (&None, &json!("cex-runs")));
    let sent = server.post(HELLO).await.body;
    let keys = |body: &Value| -> Vec<String> { body.as_object().unwrap().keys().cloned().collect() };
    assert_eq!((keys(data), &data["output"]), (keys(&sent), &sent["output"]));
}

#[tokio::test]
async fn who_comes_back_gets_what_is_missing_and_who_comes_after_the_end_the_result() {
    let server = going_on(succeeded);
    let (_, told) = follow(&server, "cex-runs", Some("0")).await;
    let ids: Vec<_> = told.iter().filter_map(|(_, id, _)| id.as_deref()).collect();
    assert_eq!(ids, ["1"]);
    server.backend.add("cex-runs", USER, Phase::Succeeded);
    let (_, told) = follow(&server, "cex-runs", Some("1")).await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].0.as_str(), &told[0].2["output"]),
        ("result", &json!("Hello\n"))
    );
}

#[tokio::test]
async fn a_record_that_goes_before_its_end_is_told_as_an_error() {
    let server = going_on(|| Err(BackendError::Deleted));
    let (_, told) = follow(&server, "cex-runs", None).await;
    let (name, _, data) = told.last().unwrap();
    assert_eq!(name, "failed");
    assert_eq!(
        data,
        &json!({"error": "the execution was deleted before it ended", "code": "deleted", "id": "cex-runs"})
    );
}

#[tokio::test]
async fn only_its_owner_follows_an_execution_and_a_wrong_place_is_named() {
    let server = going_on(succeeded);
    server.backend.add("cex-other", "alice", Phase::Running);
    for id in ["cex-other", "cex-none", "No%20name"] {
        let (answer, told) = follow(&server, id, None).await;
        assert_eq!((answer.status, told.len()), (404, 0), "{id}");
    }
    let (answer, _) = follow(&server, "cex-runs", Some("first")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["error"].as_str().unwrap().contains("Last-Event-ID"));
}

#[tokio::test]
async fn more_than_the_bound_are_refused_until_one_leaves() {
    let server = server_with(&["--max-streams", "1"], succeeded, Ok(()));
    server.backend.add("cex-runs", USER, Phase::Running);
    let ask = || request("GET", "/api/executions/cex-runs/events", "", "");
    let open = server.router.clone().oneshot(ask()).await.unwrap();
    assert_eq!(open.status(), 200);
    let refused = server.send(ask()).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("too_many_streams"))
    );
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    drop(open);
    assert_eq!(server.send(ask()).await.status, 200);
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams() {
    let server = going_on(succeeded);
    server.stopping.cancel();
    let (answer, told) = follow(&server, "cex-runs", None).await;
    assert_eq!((answer.status, told.len()), (200, 0));
}
