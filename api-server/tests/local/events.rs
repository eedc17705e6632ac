//! An execution that is followed.

use axum::body::BodyDataStream;
use futures::StreamExt;

use super::executions::{get, send};
use super::*;

/// What a stream of events tells until this text, which has to come.
async fn until(stream: &mut BodyDataStream, text: &str) -> String {
    let mut told = String::new();
    while !told.contains(text) {
        let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
        let piece = next
            .expect("the stream goes on")
            .expect("it has not ended")
            .unwrap();
        told.push_str(std::str::from_utf8(&piece).unwrap());
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_prints_is_seen_while_it_runs() {
    let router = router().await;
    let code = "import time\nprint('first')\ntime.sleep(2)\nprint('second')";
    let body = json!({"code": code, "language": "python"});
    let (status, begun, _) = send(&router, "POST", "/api/executions", None, body).await;
    assert_eq!(status, 202, "{begun}");
    let id = begun["id"].as_str().unwrap();
    let follow = || async {
        let request = Request::get(format!("/api/executions/{id}/events"))
            .body(Body::empty())
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().into_data_stream()
    };
    let mut stream = follow().await;
    let told = until(&mut stream, "\n\n").await + &until(&mut stream, "first").await;
    assert!(told.contains("event: started"), "{told}");
    assert!(told.contains("id: 0"), "{told}");
    let (_, stands) = get(&router, &format!("/api/executions/{id}")).await;
    assert_eq!(stands["status"], "running");
    // Somebody else who comes late sees the same.
    let mut late = follow().await;
    assert!(until(&mut late, "first").await.contains("event: output"));
    for stream in [&mut stream, &mut late] {
        let told = until(stream, "event: result").await;
        assert!(!told.contains("\"data\":\"first"), "{told}");
    }
    let (_, ended) = get(&router, &format!("/api/executions/{id}")).await;
    assert_eq!(ended["output"], "first\nsecond\n");
    let told = until(&mut follow().await, "event: result").await;
    assert!(!told.contains("event: output"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancelled_program_had_printed_stays() {
    let router = router().await;
    let body = json!({"code": "import time\nprint('first')\ntime.sleep(20)", "language": "python"});
    let (_, begun, _) = send(&router, "POST", "/api/executions", None, body).await;
    let path = format!("/api/executions/{}", begun["id"].as_str().unwrap());
    let request = Request::get(format!("{path}/events"))
        .body(Body::empty())
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    until(&mut stream, "first").await;
    assert_eq!(send(&router, "DELETE", &path, None, Value::Null).await.0, 202);
    let told = until(&mut stream, "event: result").await;
    assert!(told.contains("\"output\":\"first\\n\""), "{told}");
}
