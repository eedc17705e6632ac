use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use codeexec_crds::ANNOTATION_SUMMARY;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::usage::{Period, Source, Usage};

/// A Kubernetes API with 20,000 finished records of two users, which tells them in pages.
#[derive(Clone, Default)]
struct Fake {
    pages: Arc<AtomicUsize>,
    largest: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    label_selector: String,
    limit: usize,
    #[serde(rename = "continue")]
    from: Option<usize>,
}

fn record(number: usize) -> Value {
    let user = if number.is_multiple_of(4) { "alice" } else { "bob" };
    let second =
        jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(number).expect("small")).expect("a time");
    let summary = json!({"user": user, "endedAt": second, "vcpuSeconds": 0.5, "cost": 0.25,
        "stored": {"stdout": 1, "stderr": 0, "error": 0, "rest": 1}});
    let summary = if number == 8 {
        "spoiled".to_owned()
    } else {
        summary.to_string()
    };
    json!({"metadata": {"name": format!("cex-{number}"), "uid": format!("u{number}"),
        "labels": {LABEL_PHASE: "Succeeded", LABEL_USER: user_hash(user)},
        "annotations": {ANNOTATION_SUMMARY: summary}}})
}

async fn list(State(fake): State<Fake>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let begin = wanted.from.unwrap_or(0);
    let end = (begin + wanted.limit).min(20_000);
    fake.pages.fetch_add(1, Ordering::Relaxed);
    fake.largest.fetch_max(end - begin, Ordering::Relaxed);
    let selected = |record: &Value| {
        wanted
            .label_selector
            .split(',')
            .all(|term| match term.split_once('=') {
                Some((label, value)) => record["metadata"]["labels"][label] == value,
                None => !record["metadata"]["labels"][term].is_null(),
            })
    };
    let items: Vec<Value> = (begin..end).map(record).filter(selected).collect();
    let rest = (end < 20_000).then(|| end.to_string());
    Json(
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": "1", "continue": rest}, "items": items}),
    )
}

impl Fake {
    fn usage(&self) -> Usage {
        let path = "/apis/codeexec.dev/v1alpha1/namespaces/executions/codeexecutions";
        let router = Router::new().route(path, get(list)).with_state(self.clone());
        let client = Client::new(router, "executions");
        Usage::new(
            Source::Records(Box::new(Records::new(client, "executions"))),
            1000.0,
        )
    }
}

fn always() -> Period {
    Period {
        from: jiff::Timestamp::UNIX_EPOCH,
        to: "2100-01-01T00:00:00Z".parse().expect("a time"),
    }
}

#[tokio::test]
async fn twenty_thousand_records_are_read_in_small_pages() {
    let fake = Fake::default();
    let report = fake.usage().report(&always(), None).await.expect("a report");
    assert_eq!(fake.pages.load(Ordering::Relaxed), 80);
    assert_eq!(fake.largest.load(Ordering::Relaxed), 250);
    // The one that somebody spoiled is left out.
    assert_eq!(report.total.executions, 19_999);
    let users: Vec<_> = report
        .users
        .iter()
        .map(|sums| (sums.user.as_str(), sums.sums.executions))
        .collect();
    assert_eq!(users, [("bob", 15_000), ("alice", 4_999)]);
    assert_eq!(
        report.billable.map(|billable| billable.vcpu_seconds),
        Some(19_999.0 * 0.5 - 1000.0)
    );
}

#[tokio::test]
async fn one_user_s_records_are_asked_for_by_label() {
    let report = Fake::default()
        .usage()
        .report(&always(), Some("alice"))
        .await
        .expect("a report");
    assert_eq!((report.users.len(), report.total.executions), (1, 4_999));
    assert_eq!(report.billable, None);
}
