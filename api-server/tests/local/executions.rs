//! Executions that are begun, looked at, listed, cancelled, and found again by their key.

use super::*;

/// A request to local mode, and what came of it.
pub async fn send(
    router: &Router,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Value,
) -> (u16, Value, bool) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = request.body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let is_replayed = response.headers().contains_key("idempotent-replayed");
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (
        status,
        serde_json::from_slice(&body).unwrap_or_default(),
        is_replayed,
    )
}

pub async fn get(router: &Router, path: &str) -> (u16, Value) {
    let (status, body, _) = send(router, "GET", path, None, Value::Null).await;
    (status, body)
}

/// What is there once it is no more what it was.
async fn once(router: &Router, id: &str, reached: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, body) = get(router, &format!("/api/executions/{id}")).await;
        if reached(&body) {
            return body;
        }
        assert!(Instant::now() < deadline, "it stays so: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn has_ended(body: &Value) -> bool {
    !matches!(body["status"].as_str(), Some("queued" | "running"))
}

const SLEEPS: &str = "import time\nprint('begun', flush=True)\ntime.sleep(20)\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_begun_looked_at_listed_and_keeps_its_result() {
    let router = router().await;
    let program = json!({"code": "import time; time.sleep(0.3); print('done')", "language": "python"});
    let (status, begun, _) = send(&router, "POST", "/api/executions", None, program).await;
    assert_eq!((status, &begun["status"]), (202, &json!("queued")));
    let id = begun["id"].as_str().unwrap();
    let running = once(&router, id, |body| body["status"] != "queued").await;
    assert!(
        running["createdAt"].is_string() || has_ended(&running),
        "{running}"
    );
    let done = once(&router, id, has_ended).await;
    assert_eq!(
        (&done["status"], &done["output"]),
        (&json!("success"), &json!("done\n"))
    );
    assert!(done["executionTime"].as_u64().unwrap() >= 300, "{done}");

    // What was waited for leaves a record, too.
    let failed = run(&router, "raise SystemExit(3)").await;
    let (_, again) = get(
        &router,
        &format!("/api/executions/{}", failed["id"].as_str().unwrap()),
    )
    .await;
    assert_eq!(
        (&again["exitCode"], &again["error"]),
        (&json!(3), &failed["error"])
    );
    let (_, list) = get(&router, "/api/executions?status=error").await;
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["id"]), (1, &failed["id"]));
    assert_eq!(
        (&items[0]["reason"], items[0].get("output")),
        (&json!("NonZeroExit"), None)
    );
    let (_, page) = get(&router, "/api/executions?limit=1").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let rest = format!("/api/executions?continue={}", page["continue"].as_str().unwrap());
    let (_, rest) = get(&router, &rest).await;
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), rest.get("continue")),
        (1, None)
    );
    let (_, later) = get(&router, "/api/executions?since=2999-01-01T00:00:00Z").await;
    assert_eq!(later["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_what_runs_and_what_waits_and_the_record_stays() {
    let router = router().await;
    let program = json!({"code": SLEEPS, "language": "python"});
    let mut ids = vec![];
    // Two run at once, so the third waits.
    for _ in 0..3 {
        let (_, begun, _) = send(&router, "POST", "/api/executions", None, program.clone()).await;
        ids.push(begun["id"].as_str().unwrap().to_owned());
    }
    once(&router, &ids[0], |body| body["status"] == "running").await;
    once(&router, &ids[1], |body| body["status"] == "running").await;
    let began = Instant::now();
    for id in [&ids[2], &ids[0], &ids[1]] {
        let path = format!("/api/executions/{id}");
        assert_eq!(send(&router, "DELETE", &path, None, Value::Null).await.0, 202);
        let ended = once(&router, id, has_ended).await;
        assert_eq!(
            (&ended["status"], &ended["reason"]),
            (&json!("error"), &json!("Cancelled"))
        );
        // Once more does no harm.
        assert_eq!(send(&router, "DELETE", &path, None, Value::Null).await.0, 204);
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    let (_, waited) = get(&router, &format!("/api/executions/{}", ids[2])).await;
    assert_eq!(
        (&waited["retryable"], &waited["output"]),
        (&json!(false), &json!(""))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_for_the_same_program_or_gets_its_result() {
    let router = router().await;
    let code = "import time, uuid; time.sleep(0.5); print(uuid.uuid4())";
    let program = json!({"code": code, "language": "python"});
    let send = async |path: &str, code: Value| self::send(&router, "POST", path, Some("key"), code).await;
    let both = tokio::join!(
        send("/api/execute", program.clone()),
        send("/api/execute", program.clone())
    );
    let ((_, first, _), (_, beside, _)) = &both;
    assert_eq!(first["status"], "success", "{first}");
    assert_eq!(first["output"], beside["output"]);
    assert_ne!(both.0.2, both.1.2);
    let (status, again, is_replayed) = send("/api/execute", program.clone()).await;
    assert_eq!(
        (status, &again["output"], is_replayed),
        (200, &first["output"], true)
    );
    let (status, later, _) = send("/api/executions", program).await;
    assert_eq!((status, &later["id"]), (202, &first["id"]));
    let other = json!({"code": "print(1)", "language": "python"});
    let (status, refused, _) = send("/api/execute", other).await;
    assert_eq!(
        (status, &refused["code"]),
        (422, &json!("idempotency_key_reused"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_does_not_end_what_its_key_stands_for() {
    let router = router().await;
    let program = json!({"code": "import time; time.sleep(0.5); print('all of it')", "language": "python"});
    let request = send(&router, "POST", "/api/execute", Some("key"), program.clone());
    let hung_up = tokio::time::timeout(Duration::from_millis(100), request).await;
    assert!(hung_up.is_err());
    let (status, answer, is_replayed) = send(&router, "POST", "/api/execute", Some("key"), program).await;
    assert_eq!(
        (status, &answer["output"], is_replayed),
        (200, &json!("all of it\n"), true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn local_mode_counts_executions_and_ends_their_places_with_them() {
    let flags = ["--rate-limit", "4", "--max-concurrent-per-user", "1"];
    let router = serve(backend_with(&flags).await);
    let sleeps = json!({"code": SLEEPS, "language": "python"});
    let (status, begun, _) = send(&router, "POST", "/api/executions", None, sleeps.clone()).await;
    assert_eq!(status, 202);
    let (status, refused, _) = send(&router, "POST", "/api/executions", None, sleeps).await;
    assert_eq!((status, &refused["code"]), (429, &json!("too_many_concurrent")));
    let id = begun["id"].as_str().unwrap();
    let path = format!("/api/executions/{id}");
    send(&router, "DELETE", &path, None, Value::Null).await;
    once(&router, id, has_ended).await;
    let quick = json!({"code": "print(1)", "language": "python"});
    let mut statuses = vec![];
    for _ in 0..4 {
        statuses.push(send(&router, "POST", "/api/execute", None, quick.clone()).await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
}
