//! What is told of a finished execution beside its status: its summary, the usage of its user, Events.

use anyhow::{Context, Result};
use codeexec_crds::{Reason, Summary};
use codeexec_e2e::cluster::{PATIENCE, record_of};
use codeexec_e2e::{Cluster, PoolOf, Program, wait_until};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

/// Written after the result, which no client waits for.
async fn summary_of(cluster: &Cluster, name: &str) -> Result<Summary> {
    wait_until("the record has its summary", PATIENCE, async || {
        Ok(Summary::of(
            &cluster.executions().get_metadata(name).await?.metadata,
        ))
    })
    .await
}

#[tokio::test]
async fn a_summary_tells_what_its_record_takes_whatever_was_printed() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let stdin = "\u{1}<\u{2028}".repeat(5_000);
    for (code, stdin) in [
        ("print('hello')", String::new()),
        ("print('<' * 50_000)\nraise ValueError('&' * 500)", String::new()),
        ("print('\\u2028\\x01' * 200_000)", stdin),
    ] {
        let (execution, _) = cluster
            .apply_and_wait("summary", &Program::new(code).stdin(stdin))
            .await?;
        let name = execution.name_any();
        let told = usize::try_from(summary_of(&cluster, &name).await?.stored.total())?;
        let stored = cluster.encoded_execution(&name).await?.len();
        // What it reckons beforehand, managedFields above all, is not exact.
        assert!(
            told + 500 >= stored && told <= stored + 4_000,
            "{code}: told {told}, stored {stored}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn usage_adds_up_what_a_user_has_run() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let answer = cluster.run(&Program::that_takes(0.5, "runs")).await?;
    let cost = answer["usage"]["cost"].as_f64().context("a cost")?;
    let vcpu_seconds = answer["usage"]["vcpuSeconds"].as_f64().context("vCPU-seconds")?;
    // Half a second with the default limit of half a vCPU, at the plan's price.
    assert!(vcpu_seconds >= 0.25, "{answer}");
    assert!((cost - vcpu_seconds * 0.000_034_17).abs() < 1e-9, "{answer}");
    let summary = summary_of(&cluster, record_of(&answer)?).await?;
    assert_eq!((summary.vcpu_seconds, summary.cost), (vcpu_seconds, cost));
    let usage = cluster.get("/api/usage").await?.ok()?;
    let own = usage["users"]
        .as_array()
        .and_then(|users| users.iter().find(|sums| sums["user"] == summary.user.as_str()))
        .context("the user is in the report")?;
    assert!(
        own["executions"]
            .as_u64()
            .is_some_and(|executions| executions >= 1),
        "{usage}"
    );
    assert!(own["cost"].as_f64().is_some_and(|sum| sum >= cost), "{usage}");
    let wrong = cluster.get("/api/usage?from=yesterday").await?;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
    Ok(())
}

#[tokio::test]
async fn an_event_tells_why_the_platform_failed_an_execution() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let pool = PoolOf::pods(0).with(|spec| spec.image = Some("codeexec.invalid/nothing:here".to_owned()));
    let (execution, status) = pool
        .run(&cluster, async |pool| {
            cluster.apply_and_wait("event", &pool.program("print(1)")).await
        })
        .await?;
    assert_eq!(status.reason, Some(Reason::ImagePull));
    let events: Api<Event> = cluster.beside_executions();
    let about = format!("regarding.name={}", execution.name_any());
    let event = wait_until("there is an Event", PATIENCE, async || {
        let found = events.list(&ListParams::default().fields(&about)).await?;
        Ok(found.items.into_iter().next())
    })
    .await?;
    assert_eq!(event.reason.as_deref(), Some("ImagePull"));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert_eq!(event.note, status.error);
    Ok(())
}
