//! `/api/executions/{id}/events`: what an execution prints is seen while it runs.

use anyhow::{Context, Result, ensure};
use codeexec_crds::{ReusePolicy, ReuseSpec};
use codeexec_e2e::{Cluster, Event, Events, PoolOf, Program, unique};
use reqwest::Method;
use serde_json::{Value, json};

async fn stands(cluster: &Cluster, id: &str) -> Result<Value> {
    cluster.get(&format!("/api/executions/{id}")).await?.ok()
}

fn printed(events: &[Event]) -> String {
    let outputs = events.iter().filter(|event| event.name == "output");
    outputs.filter_map(|event| event.data["data"].as_str()).collect()
}

#[tokio::test]
async fn output_is_seen_while_its_program_runs_and_the_result_comes_last() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let first = unique("first");
    let id = cluster.begin(&Program::that_takes(3.0, &first)).await?;
    let mut events = Events::of(&cluster, "", &id, None).await?;
    let (output, before) = events.until("output").await?;
    assert_eq!(
        output.data,
        json!({"stream": "stdout", "data": format!("{first}\n")})
    );
    assert_eq!(output.id, Some(0));
    assert_eq!(before.last().map(|event| event.name.as_str()), Some("started"));
    let meanwhile = stands(&cluster, &id).await?;
    assert_eq!(meanwhile["status"], "running", "{meanwhile}");
    let (result, _) = events.until("result").await?;
    ensure!(events.next().await?.is_none(), "the stream goes on");
    assert_eq!(result.data["output"], format!("{first}\ndone\n"));
    assert_eq!(result.data, stands(&cluster, &id).await?);
    // After the end there is nothing else.
    let mut events = Events::of(&cluster, "", &id, None).await?;
    let (again, before) = events.until("result").await?;
    assert_eq!((again, before), (result, Vec::new()));
    Ok(())
}

#[tokio::test]
async fn whoever_comes_late_or_back_gets_what_is_missing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "import sys, time\nprint('a')\ntime.sleep(0.3)\nprint('b', file=sys.stderr)\ntime.sleep(3)\n";
    let id = cluster.begin(&Program::new(code)).await?;
    let mut events = Events::of(&cluster, "", &id, None).await?;
    let (_, _) = events.until("output").await?;
    let (second, _) = events.until("output").await?;
    assert_eq!(second.data, json!({"stream": "stderr", "data": "b\n"}));
    drop(events);
    let mut late = Events::of(&cluster, "", &id, None).await?;
    let (first, _) = late.until("output").await?;
    assert_eq!((first.id, &first.data["data"]), (Some(0), &json!("a\n")));
    let mut back = Events::of(&cluster, "", &id, first.id).await?;
    assert_eq!(back.until("output").await?.0, second);
    // Nobody has cancelled it by leaving.
    let (result, _) = back.until("result").await?;
    assert_eq!(result.data["status"], "success", "{}", result.data);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_has_served_before_shows_nothing_of_that() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let pool = PoolOf::pods(1).with(|spec| {
        spec.reuse = Some(ReuseSpec {
            policy: ReusePolicy::SameUser,
            ..ReuseSpec::default()
        });
    });
    pool.run_full(&cluster, async |pool| {
        for number in 0..3 {
            let code = format!("import time\nprint({number})\ntime.sleep(1)\nprint('end')");
            let id = cluster.begin(&pool.program(code)).await?;
            let (result, before) = Events::of(&cluster, "", &id, None).await?.until("result").await?;
            let output = result.data["output"].as_str().context("no output")?;
            assert_eq!(output, format!("{number}\nend\n"));
            let seen = printed(&before);
            ensure!(
                !seen.is_empty() && output.starts_with(&seen),
                "{seen:?} of {output:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cancelled_execution_ends_its_stream() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let id = cluster.begin(&Program::that_takes(25.0, "runs")).await?;
    let mut events = Events::of(&cluster, "", &id, None).await?;
    events.until("output").await?;
    cluster
        .send(Method::DELETE, &format!("/api/executions/{id}"), &[], None)
        .await?;
    let (result, _) = events.until("result").await?;
    assert_eq!(
        (&result.data["reason"], &result.data["output"]),
        (&json!("Cancelled"), &json!("runs\n"))
    );
    Ok(())
}
