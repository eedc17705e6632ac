//! A request that is repeated under its Idempotency-Key runs its program once, whatever happens in between.
//!
//! What is counted is the `started` frames in the logs of all Pods, not what the API server says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_e2e::cluster::{Answer, PATIENCE, record_of};
use codeexec_e2e::{Cluster, Events, Program, Witness, api, operator, unique, wait_until};
use kube::api::DeleteParams;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

/// Every replica there, whatever the test before did to them.
async fn whole_cluster() -> Result<Cluster> {
    let cluster = Cluster::connect().await?;
    operator::is_at_full_strength(&cluster, "api").await?;
    Ok(cluster)
}

async fn post(cluster: &Cluster, url: &str, key: &str, program: &Program) -> Result<Answer> {
    let url = format!("{url}/api/execute");
    let headers = [("idempotency-key", key)];
    cluster
        .send(Method::POST, &url, &headers, Some(&program.body()))
        .await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.contains_key("idempotent-replayed")
}

/// The record of the only execution whose code holds this text, once it is there.
async fn record_with(cluster: &Cluster, text: &str) -> Result<String> {
    wait_until("the execution is created", PATIENCE, async || {
        let records = cluster.executions().list(&Default::default()).await?;
        let mut found = records
            .items
            .into_iter()
            .filter(|record| record.spec.code.contains(text));
        Ok(found.next().and_then(|record| record.metadata.name))
    })
    .await
}

#[tokio::test]
async fn an_api_server_killed_between_create_and_answer_runs_nothing_twice() -> Result<()> {
    let cluster = whole_cluster().await?;
    let replicas = api::replicas(&cluster).await?;
    let Some(victim) = replicas.first() else {
        eprintln!("SKIPPED: single replicas of this cluster can't be reached");
        return Ok(());
    };
    let witness = Witness::start(&cluster).await?;
    let (first, key) = (unique("first"), unique("key"));
    let program = Program::that_takes(4.0, &first).timeout(20);
    let request = tokio::spawn({
        let (cluster, url, key, program) =
            (cluster.clone(), victim.url.clone(), key.clone(), program.clone());
        async move { post(&cluster, &url, &key, &program).await }
    });
    let record = record_with(&cluster, &first).await?;
    operator::signal(victim.pid, Signal::KILL)?;
    ensure!(request.await?.is_err(), "the killed server answered");

    // Another replica takes the retry, while the program runs and once it has ended.
    let other = replicas.get(1).context("there is one replica only")?;
    for _ in 0..2 {
        let answer = post(&cluster, &other.url, &key, &program).await?;
        ensure!(is_replayed(&answer), "it ran again: {}", answer.body);
        let answer = answer.ok()?;
        assert_eq!(record_of(&answer)?, record);
        assert_eq!(answer["output"], format!("{first}\ndone\n"));
    }
    let execution = cluster.executions().get(&record).await?;
    witness.saw_it_start_once(&execution).await?;

    // The kubelet would start the killed one again after a pause that doubles each time.
    cluster
        .beside_control::<k8s_openapi::api::core::v1::Pod>()
        .delete(&victim.pod, &DeleteParams::default().grace_period(0))
        .await?;
    operator::is_at_full_strength(&cluster, "api").await
}

#[tokio::test]
async fn retries_beside_each_other_and_over_replicas_are_one_execution() -> Result<()> {
    let cluster = whole_cluster().await?;
    let mut urls: Vec<String> = api::replicas(&cluster)
        .await?
        .into_iter()
        .map(|one| one.url)
        .collect();
    if urls.is_empty() {
        urls.push(cluster.url().to_owned());
    }
    let (first, key) = (unique("first"), unique("key"));
    let program = Program::that_takes(1.0, &first);
    let requests = urls
        .iter()
        .cycle()
        .take(6)
        .map(|url| post(&cluster, url, &key, &program));
    let answers = futures::future::try_join_all(requests).await?;
    assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    let record = record_of(&answers[0].body)?;
    for answer in &answers {
        assert_eq!((answer.status, record_of(&answer.body)?), (200, record));
        assert_eq!(answer.body["output"], format!("{first}\ndone\n"));
    }

    let other = post(&cluster, &urls[0], &key, &Program::new("print('other')")).await?;
    assert_eq!(
        (other.status, &other.body["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    let wrong = post(&cluster, &urls[0], "not visible", &program).await?;
    assert_eq!(wrong.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_its_result_by_its_key() -> Result<()> {
    let cluster = whole_cluster().await?;
    let (first, key) = (unique("first"), unique("key"));
    let program = Program::that_takes(2.0, &first);
    let request = tokio::spawn({
        let (cluster, key, program) = (cluster.clone(), key.clone(), program.clone());
        async move { post(&cluster, cluster.url(), &key, &program).await }
    });
    let record = record_with(&cluster, &first).await?;
    request.abort();
    let status = cluster.end_of(&record, Duration::from_secs(30)).await?;
    assert_eq!(status.output, Some(format!("{first}\ndone\n")), "{status:?}");
    let answer = post(&cluster, cluster.url(), &key, &program).await?;
    ensure!(is_replayed(&answer), "it ran again");
    assert_eq!(record_of(&answer.ok()?)?, record);
    Ok(())
}

#[tokio::test]
async fn a_client_whose_server_is_killed_follows_its_execution_at_another() -> Result<()> {
    let cluster = whole_cluster().await?;
    let replicas = api::replicas(&cluster).await?;
    let [victim, other, ..] = replicas.as_slice() else {
        eprintln!("SKIPPED: single replicas of this cluster can't be reached");
        return Ok(());
    };
    let counts = "import time\nfor n in range(8):\n    print(n)\n    time.sleep(0.5)\n";
    let program = Program::new(counts).timeout(20);
    let begun = cluster
        .send(
            Method::POST,
            &format!("{}/api/executions", victim.url),
            &[],
            Some(&program.body()),
        )
        .await?;
    let id = record_of(&begun.body)?.to_owned();
    let mut events = Events::of(&cluster, &victim.url, &id, None).await?;
    let (first, _) = events.until("output").await?;
    operator::signal(victim.pid, Signal::KILL)?;
    // What came before the connection broke counts as seen.
    let mut seen = vec![first];
    while let Ok(Some(event)) = events.next().await {
        seen.push(event);
    }
    ensure!(
        seen.iter().all(|event| event.name == "output"),
        "it ended before: {seen:?}"
    );
    let last = seen.last().and_then(|event| event.id);
    let mut events = Events::of(&cluster, &other.url, &id, last).await?;
    let (result, rest) = events.until("result").await?;
    seen.extend(rest.into_iter().filter(|event| event.name == "output"));
    let ids: Vec<_> = seen.iter().filter_map(|event| event.id).collect();
    let in_order: Vec<u64> = (0..ids.len() as u64).collect();
    assert_eq!(ids, in_order);
    let printed: String = seen
        .iter()
        .filter_map(|event| event.data["data"].as_str())
        .collect();
    let output = result.data["output"].as_str().context("no output")?;
    assert_eq!(output, "0\n1\n2\n3\n4\n5\n6\n7\n");
    // The result may come before the last pieces.
    ensure!(output.starts_with(&printed) && seen.len() >= 7, "{printed:?}");
    // The kubelet would start the killed one again after a pause that doubles each time.
    cluster
        .beside_control::<k8s_openapi::api::core::v1::Pod>()
        .delete(&victim.pod, &DeleteParams::default().grace_period(0))
        .await?;
    operator::is_at_full_strength(&cluster, "api").await
}
