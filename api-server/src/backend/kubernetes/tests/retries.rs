//! Retries that meet an execution of before, and what else is done with one that is there.

use super::*;
use crate::backend::{Execution, Query as Asked, Stage};

const NAME: &str = "cex-1";

async fn start(backend: &KubernetesBackend, job: Job) -> Result<Started, BackendError> {
    backend.start(job, Keep::ToItsEnd).await
}

impl Fake {
    /// Puts an execution there that another replica has made.
    fn put_anothers(&self, phase: Option<Phase>) {
        let mut object = serde_json::to_value(object(&job(NAME), "replica-2")).unwrap();
        object["metadata"]["uid"] = json!("its uid");
        object["metadata"]["resourceVersion"] = json!("41");
        object["metadata"]["creationTimestamp"] = json!("2026-01-31T12:00:00Z");
        object["metadata"]["annotations"]["codeexec.dev/received-at"] = json!("2026-01-31T12:00:00.000Z");
        if let Some(phase) = phase {
            object["status"] = json!({"phase": phase, "reason": "Completed", "output": "before\n"});
        }
        self.objects().insert(NAME.to_owned(), object);
    }

    fn tell_one(&self, kind: &str) {
        let events = self.0.one_tx.lock().unwrap();
        let event = json!({"type": kind, "object": self.object()});
        events.as_ref().unwrap().send(event).unwrap();
    }

    /// Two rows a page, by name.
    pub(super) fn table(&self, query: &BTreeMap<String, String>) -> axum::response::Result<Response> {
        self.note(format!("table {}", query["fieldSelector"]))?;
        let after = query.get("continue").cloned().unwrap_or_default();
        if after == "old" {
            return Ok(failure(410, "Expired", "the token is too old"));
        }
        let limit: usize = query["limit"].parse().unwrap();
        let objects = self.objects();
        let rest: Vec<&Value> = objects.range(after..).map(|(_, object)| object).collect();
        let rows: Vec<Value> = rest
            .iter()
            .take(limit)
            .map(|object| {
                json!({"cells": [object["status"]["phase"], object["spec"]["user"]],
                       "object": {"metadata": object["metadata"]}})
            })
            .collect();
        let next = rest.get(limit).map(|object| object["metadata"]["name"].clone());
        let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"continue": next},
            "columnDefinitions": [{"name": "Phase"}, {"name": "User"}], "rows": rows});
        Ok(Json(table).into_response())
    }
}

#[tokio::test]
async fn a_retry_after_the_end_gets_the_result_and_runs_nothing() {
    let (fake, backend) = backend().await;
    fake.put_anothers(Some(Phase::Succeeded));
    let started = start(&backend, job(NAME)).await.unwrap();
    assert!(!started.is_new);
    assert_eq!(started.end.await.unwrap().output.as_deref(), Some("before\n"));
    assert_eq!(
        (fake.objects().len(), fake.calls("one"), fake.calls("patch")),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn a_retry_that_meets_another_replicas_execution_watches_that_one_object() {
    let (fake, backend) = backend().await;
    fake.put_anothers(None);
    let started = start(&backend, job(NAME)).await.unwrap();
    let end = tokio::spawn(started.end);
    fake.called("one cex-1 from 41", 1).await;
    fake.tell_one("MODIFIED");
    fake.end(Phase::Succeeded, Reason::Completed, false);
    fake.tell_one("MODIFIED");
    assert_eq!(end.await.unwrap().unwrap().output.as_deref(), Some("42\n"));
    assert!(backend.replica.waiters.names().is_empty());
}

#[tokio::test]
async fn a_watch_of_one_object_that_breaks_loses_no_end() {
    let (fake, backend) = backend().await;
    fake.put_anothers(None);
    let end = tokio::spawn(start(&backend, job(NAME)).await.unwrap().end);
    fake.called("one", 1).await;
    fake.end(Phase::Succeeded, Reason::Completed, false);
    *fake.0.one_tx.lock().unwrap() = None;
    assert!(end.await.unwrap().is_ok());

    fake.put_anothers(None);
    let end = tokio::spawn(start(&backend, job(NAME)).await.unwrap().end);
    fake.called("one", 2).await;
    fake.tell_one("DELETED");
    assert_eq!(end.await.unwrap(), Err(BackendError::Deleted));
}

#[tokio::test]
async fn a_retry_beside_the_request_waits_for_the_same_end() {
    let (fake, backend) = backend().await;
    let first = start(&backend, job(NAME)).await.unwrap();
    let again = start(&backend, job(NAME)).await.unwrap();
    assert_eq!((first.is_new, again.is_new), (true, false));
    let ends = tokio::spawn(async { tokio::join!(first.end, again.end) });
    fake.end(Phase::Succeeded, Reason::Completed, true);
    let (first, again) = ends.await.unwrap();
    assert_eq!(first, again);
    assert_eq!((fake.objects().len(), fake.calls("one")), (1, 0));
}

#[tokio::test]
async fn the_same_name_for_another_program_is_refused() {
    let (fake, backend) = backend().await;
    fake.put_anothers(None);
    let other = Job {
        spec: CodeExecutionSpec::python("print('other')"),
        ..job(NAME)
    };
    assert!(matches!(
        start(&backend, other.clone()).await,
        Err(BackendError::KeyReused)
    ));
    assert!(matches!(
        backend.rejoin(other).await,
        Err(BackendError::KeyReused)
    ));
    // That it was cancelled makes it no other.
    fake.objects().get_mut(NAME).unwrap()["spec"]["cancel"] = json!(true);
    assert!(start(&backend, job(NAME)).await.is_ok());
    assert!(backend.rejoin(job(NAME)).await.unwrap().is_some());
    assert!(backend.rejoin(job("cex-2")).await.unwrap().is_none());
    assert_eq!(fake.objects().len(), 1);
}

#[tokio::test]
async fn what_is_kept_to_its_end_is_not_cancelled_by_a_client_that_hangs_up() {
    let (fake, backend) = backend().await;
    drop(start(&backend, job(NAME)).await.unwrap());
    // Nor when its creation got no answer: a retry is to find it.
    *fake.0.lost.lock().unwrap() = true;
    assert!(start(&backend, job("cex-2")).await.is_err());
    *fake.0.lost.lock().unwrap() = false;
    assert!(backend.get(NAME).await.unwrap().is_some());
    assert_eq!(fake.calls("patch"), 0);
}

#[tokio::test]
async fn an_execution_is_read_with_its_owner_and_cancelled_by_a_patch() {
    let (fake, backend) = backend().await;
    fake.put_anothers(Some(Phase::Running));
    let found = backend.get(NAME).await.unwrap().unwrap();
    let Execution {
        user,
        created,
        ref status,
        ..
    } = found;
    assert_eq!(
        (user.as_str(), created.to_string().as_str()),
        ("anonymous", "2026-01-31T12:00:00Z")
    );
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(backend.get("cex-2").await, Ok(None));
    backend.cancel(NAME).await.unwrap();
    assert_eq!(fake.calls("patch cex-1 {\"spec\":{\"cancel\":true}}"), 1);
    backend.cancel("cex-2").await.unwrap();
}

#[tokio::test]
async fn a_list_reads_on_until_something_is_new_enough() {
    let (fake, backend) = backend().await;
    for (name, created) in [("a", 1), ("b", 1), ("c", 1), ("d", 20), ("e", 20)] {
        let mut object = serde_json::to_value(object(&job(name), "replica-2")).unwrap();
        object["metadata"]["creationTimestamp"] = json!(format!("2026-01-{created:02}T12:00:00Z"));
        fake.objects().insert(name.to_owned(), object);
    }
    let query = Asked {
        user: Some("anonymous".to_owned()),
        stage: Some(Stage::Queued),
        since: Some("2026-01-10T00:00:00Z".parse().unwrap()),
        after: None,
        limit: 2,
    };
    let page = backend.list(query.clone()).await.unwrap();
    let names: Vec<&str> = page.items.iter().map(|listed| listed.id.as_str()).collect();
    assert_eq!((names, page.next.as_deref()), (vec!["d"], Some("e")));
    assert_eq!(fake.calls("table status.phase!=Running,"), 2);
    let last = Asked {
        after: page.next,
        ..query.clone()
    };
    let page = backend.list(last).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
    let expired = Asked {
        after: Some("old".to_owned()),
        ..query
    };
    assert_eq!(backend.list(expired).await, Err(BackendError::ListExpired));
}
