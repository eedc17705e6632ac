//! `/api/executions`: begun without waiting, looked at, listed, cancelled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::{Phase, Reason};
use codeexec_e2e::cluster::{Answer, PATIENCE, record_of};
use codeexec_e2e::{Cluster, Program, unique, wait_until};
use kube::ResourceExt;
use reqwest::Method;
use serde_json::{Value, json};

async fn cancel(cluster: &Cluster, id: &str) -> Result<Answer> {
    let path = format!("/api/executions/{id}");
    cluster.send(Method::DELETE, &path, &[], None).await
}

/// How an execution stands once it stands so.
async fn once(cluster: &Cluster, id: &str, reached: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_until(&format!("{id} stands as wanted"), PATIENCE, async || {
        let body = cluster.get(&format!("/api/executions/{id}")).await?.ok()?;
        Ok(reached(&body).then_some(body))
    })
    .await
}

fn has_ended(body: &Value) -> bool {
    !matches!(body["status"].as_str(), Some("queued" | "running"))
}

#[tokio::test]
async fn an_execution_is_looked_at_while_it_runs_and_has_the_same_result_as_a_request_that_waits()
-> Result<()> {
    let cluster = Cluster::connect().await?;
    let first = unique("first");
    let id = cluster.begin(&Program::that_takes(2.0, &first)).await?;
    let running = once(&cluster, &id, |body| body["status"] == "running").await?;
    ensure!(running["createdAt"].is_string(), "{running}");
    let done = once(&cluster, &id, has_ended).await?;
    assert_eq!(
        (&done["status"], &done["output"]),
        (&json!("success"), &json!(format!("{first}\ndone\n")))
    );
    let waited = cluster.run(&Program::new("print(1)")).await?;
    let keys = |body: &Value| -> Vec<String> {
        body.as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect()
    };
    assert_eq!(keys(&done), keys(&waited));
    let again = cluster
        .get(&format!("/api/executions/{}", record_of(&waited)?))
        .await?
        .ok()?;
    assert_eq!(again["output"], waited["output"]);
    Ok(())
}

#[tokio::test]
async fn cancelling_ends_the_program_and_leaves_the_record() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let id = cluster.begin(&Program::that_takes(25.0, "begun")).await?;
    once(&cluster, &id, |body| body["status"] == "running").await?;
    assert_eq!(cancel(&cluster, &id).await?.status, 202);
    let status = cluster.end_of(&id, Duration::from_secs(20)).await?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Cancelled), Some(Reason::Cancelled))
    );
    let ended = once(&cluster, &id, has_ended).await?;
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&json!("error"), &json!("Cancelled"))
    );
    assert_eq!(cancel(&cluster, &id).await?.status, 204);
    assert!(cluster.executions().get_metadata_opt(&id).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_not_found() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for id in ["cex-none", "%2E%2E", "%00", "A"] {
        let answer = cluster.get(&format!("/api/executions/{id}")).await?;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (404, &json!("not_found")),
            "{id}"
        );
    }
    assert_eq!(cancel(&cluster, "cex-none").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn one_made_by_hand_is_looked_at_like_any_other() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, _) = cluster
        .apply_and_wait("by-hand", &Program::new("print('by hand')"))
        .await?;
    // The first key is an administrator's, so that everybody's are there for it.
    let done = once(&cluster, &execution.name_any(), has_ended).await?;
    assert_eq!(
        (&done["status"], &done["output"]),
        (&json!("success"), &json!("by hand\n"))
    );
    Ok(())
}

#[tokio::test]
async fn a_list_has_pages_and_filters_and_holds_no_output() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let since = jiff::Timestamp::now();
    let mut ids = vec![];
    for code in ["print(1)", "print(2)", "raise SystemExit(3)"] {
        let answer = cluster.run(&Program::new(code)).await?;
        ids.push(record_of(&answer)?.to_owned());
    }
    let list = async |filter: &str| -> Result<Vec<Value>> {
        let (mut found, mut next) = (vec![], String::new());
        loop {
            let path = format!("/api/executions?since={since:.0}&limit=2&{filter}{next}");
            let page = cluster.get(&path).await?.ok()?;
            found.extend(page["items"].as_array().context("no items")?.clone());
            match page["continue"].as_str() {
                Some(token) => next = format!("&continue={token}"),
                None => return Ok(found),
            }
        }
    };
    let all = list("").await?;
    for id in &ids {
        let item = all
            .iter()
            .find(|item| item["id"] == *id)
            .context("one is missing")?;
        let record = cluster.executions().get(id).await?;
        assert_eq!(item["user"], record.spec.user);
        assert!(
            item.get("output").is_none() && item.get("code").is_none(),
            "{item}"
        );
    }
    let failed = list("status=error&").await?;
    assert!(failed.iter().all(|item| item["status"] == "error"));
    let own: Vec<_> = failed
        .iter()
        .filter(|item| ids.contains(&item["id"].as_str().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!((own.len(), &own[0]["reason"]), (1, &json!("NonZeroExit")));
    let wrong = cluster.get("/api/executions?status=Failed").await?;
    assert_eq!(wrong.status, 400);
    Ok(())
}
