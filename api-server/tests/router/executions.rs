//! `/api/executions`.

use super::*;

#[tokio::test]
async fn an_execution_is_begun_without_waiting_for_it() {
    let server = good();
    let begin = || request("POST", "/api/executions", "application/json", HELLO);
    let answer = server.send(begin()).await;
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("queued")));
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(
        answer.headers[header::LOCATION],
        format!("/api/executions/{id}").as_str()
    );
    assert_eq!(server.backend.jobs.lock().unwrap()[0].id, id);

    // By a key it is the one of before, as it stands.
    let mut with_key = begin();
    with_key
        .headers_mut()
        .insert("idempotency-key", "k".parse().unwrap());
    let first = server.send(with_key).await;
    let id = first.body["id"].as_str().unwrap();
    server.backend.add(id, "anonymous:127.0.0.1", Phase::Running);
    let mut with_key = begin();
    with_key
        .headers_mut()
        .insert("idempotency-key", "k".parse().unwrap());
    let again = server.send(with_key).await;
    assert_eq!((again.status, &again.body["id"]), (202, &json!(id)));
    assert_eq!(again.body["status"], "running");
    assert_eq!(again.headers["idempotent-replayed"], "true");
}

#[tokio::test]
async fn an_execution_is_looked_at_by_its_owner_only() {
    let server = good();
    server
        .backend
        .add("cex-waits", "anonymous:127.0.0.1", Phase::Queued);
    server
        .backend
        .add("cex-done", "anonymous:127.0.0.1", Phase::Succeeded);
    server.backend.add("cex-other", "alice", Phase::Succeeded);
    let get = async |id: &str| {
        let path = format!("/api/executions/{id}");
        server.send(request("GET", &path, "", "")).await
    };
    let waits = get("cex-waits").await;
    assert_eq!(
        waits.body,
        json!({"id": "cex-waits", "status": "queued", "createdAt": "2026-01-31T12:00:00Z", "queuePosition": 3})
    );
    let done = get("cex-done").await;
    let sent = server.post(HELLO).await;
    assert_eq!((done.status, &done.body["output"]), (200, &json!("Hello\n")));
    let keys =
        |answer: &Answer| -> Vec<String> { answer.body.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&done), keys(&sent));
    for unknown in ["cex-other", "cex-none", "..", "a%2Fb", "%00", "X"] {
        let answer = get(unknown).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (404, &json!("not_found")),
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn what_runs_is_cancelled_and_what_has_ended_stays_as_it_is() {
    let server = good();
    server
        .backend
        .add("cex-runs", "anonymous:127.0.0.1", Phase::Running);
    server
        .backend
        .add("cex-done", "anonymous:127.0.0.1", Phase::Succeeded);
    server.backend.add("cex-other", "alice", Phase::Running);
    for (id, status) in [
        ("cex-runs", 202),
        ("cex-done", 204),
        ("cex-other", 404),
        ("cex-none", 404),
    ] {
        let path = format!("/api/executions/{id}");
        assert_eq!(
            server.send(request("DELETE", &path, "", "")).await.status,
            status,
            "{id}"
        );
    }
    assert_eq!(*server.backend.cancelled.lock().unwrap(), ["cex-runs"]);
}

#[tokio::test]
async fn a_list_holds_ones_own_and_nothing_large() {
    let server = good();
    server
        .backend
        .add("cex-a", "anonymous:127.0.0.1", Phase::Succeeded);
    server.backend.add("cex-b", "anonymous:127.0.0.1", Phase::Running);
    server.backend.add("cex-c", "alice", Phase::Succeeded);
    let list = async |query: &str| {
        let path = format!("/api/executions{query}");
        server.send(request("GET", &path, "", "")).await
    };
    let all = list("").await;
    assert_eq!(
        all.body,
        json!({"items": [
            {"id": "cex-a", "user": "anonymous:127.0.0.1", "status": "success", "reason": "Completed",
             "createdAt": "2026-01-31T12:00:00Z"},
            {"id": "cex-b", "user": "anonymous:127.0.0.1", "status": "running", "createdAt": "2026-01-31T12:00:00Z"},
        ], "continue": "there is more"})
    );
    let running = list("?status=running&limit=5&continue=there").await;
    assert_eq!(running.body["items"].as_array().unwrap().len(), 1);
    let asked = server.backend.queries.lock().unwrap().pop().unwrap();
    assert_eq!((asked.limit, asked.after.as_deref()), (5, Some("there")));
    assert_eq!(asked.user.as_deref(), Some("anonymous:127.0.0.1"));
    assert_eq!(list("?user=anonymous:127.0.0.1").await.status, 200);
    for (query, status) in [("?user=alice", 403), ("?limit=0", 400), ("?sort=age", 400)] {
        assert_eq!(list(query).await.status, status, "{query}");
    }
}
