//! What is counted, and what a retry is.

use super::*;

fn keyed(key: &str, body: &str) -> Request<Body> {
    let mut request = request("POST", "/api/execute", "application/json", body.to_owned());
    request
        .headers_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn the_rate_is_told_with_each_answer_and_what_is_beyond_it_is_refused_and_runs_nothing() {
    let server = server_with(
        &["--rate-limit", "2", "--max-concurrent-per-user", "0"],
        succeeded,
        Ok(()),
    );
    for (remaining, reset) in [("1", "\"executions\";r=1;t=60"), ("0", "\"executions\";r=0;t=60")] {
        let answer = server.post(HELLO).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["ratelimit-policy"], "\"executions\";q=2;w=60");
        assert_eq!(answer.headers["ratelimit"], reset);
        assert_eq!(answer.headers["ratelimit-limit"], "2");
        assert_eq!(answer.headers["ratelimit-remaining"], remaining);
    }
    // Requests that are wrong in themselves are told so, and count nowhere.
    assert_eq!(server.post("{}").await.status, 400);
    // Whatever a client says of itself, it is the same one.
    for header in [
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "x-user",
        "x-codeexec-user",
    ] {
        let mut forged = request("POST", "/api/execute", "application/json", HELLO);
        forged.headers_mut().insert(header, "10.1.2.3".parse().unwrap());
        let answer = server.send(forged).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (429, &json!("rate_limited"))
        );
        assert_eq!(answer.headers[header::RETRY_AFTER], "60");
        assert_eq!(answer.headers["ratelimit-remaining"], "0");
        let text = "Too many executions: 2 a minute are allowed. Try again in 60 s.";
        assert_eq!(answer.body["error"], text);
    }
    assert_eq!(server.backend.jobs.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn executions_at_once_are_bounded() {
    // This backend tells nobody that its programs have ended.
    let flags = ["--rate-limit", "100", "--max-concurrent-per-user", "2"];
    let server = server_with(&flags, succeeded, Ok(()));
    for status in [200, 200, 429] {
        let answer = server.post(HELLO).await;
        assert_eq!(answer.status, status);
        if status == 429 {
            assert_eq!(answer.body["code"], "too_many_concurrent");
            assert_eq!(answer.headers[header::RETRY_AFTER], "2");
        }
    }
}

#[tokio::test]
async fn what_the_backend_does_not_take_on_is_not_counted() {
    let busy = || Err(BackendError::Busy { retry_after: 2 });
    let server = server_with(&["--rate-limit", "1"], busy, Ok(()));
    for _ in 0..3 {
        let answer = server.post(HELLO).await;
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("busy")));
        assert!(!answer.headers.contains_key("ratelimit-limit"));
    }
}

#[tokio::test]
async fn a_retry_with_the_same_key_is_the_same_execution_and_counts_once() {
    let flags = ["--rate-limit", "1", "--max-concurrent-per-user", "0"];
    let server = server_with(&flags, succeeded, Ok(()));
    let first = server.send(keyed("a", HELLO)).await;
    assert_eq!(
        (first.status, first.headers.contains_key("idempotent-replayed")),
        (200, false)
    );
    for key in ["a", "\"a\""] {
        let again = server.send(keyed(key, HELLO)).await;
        assert_eq!((again.status, &again.body["id"]), (200, &first.body["id"]));
        assert_eq!(again.headers["idempotent-replayed"], "true");
    }
    assert_eq!(server.backend.jobs.lock().unwrap().len(), 1);
    assert_eq!(server.send(keyed("b", HELLO)).await.status, 429);

    let other = r#"{"code": "print('other')", "language": "python"}"#;
    let reused = server.send(keyed("a", other)).await;
    assert_eq!(
        (reused.status, &reused.body["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    let wrong = server.send(keyed("a b", HELLO)).await;
    assert_eq!(
        (wrong.status, &wrong.body["code"]),
        (400, &json!("invalid_request"))
    );
}

#[tokio::test]
async fn what_could_not_run_is_not_promised_to_run_by_the_same_key() {
    let unschedulable = || {
        Ok(CodeExecutionStatus {
            phase: Some(Phase::Failed),
            reason: Some(Reason::Unschedulable),
            ..CodeExecutionStatus::default()
        })
    };
    let server = server(unschedulable, Ok(()));
    assert_eq!(server.send(keyed("a", HELLO)).await.status, 503);
    let again = server.send(keyed("a", HELLO)).await;
    assert_eq!(
        (again.status, again.headers.contains_key(header::RETRY_AFTER)),
        (503, false)
    );
}
