//! The rate limit, against a client that spreads its requests over three replicas and lies about itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use codeexec_e2e::cluster::{Answer, record_of};
use codeexec_e2e::{Cluster, Program, api, operator, wait_until};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use reqwest::Method;

const LIMIT: usize = 10;
const REPLICAS: usize = 3;

/// A window, and what a machine that is busy may add.
const A_WINDOW: Duration = Duration::from_secs(75);

async fn request(cluster: &Cluster, url: &str, number: usize) -> Result<Answer> {
    // Whatever a client says of itself, it is the same one.
    let address = format!("10.0.{}.{}", number / 250, number % 250);
    let forwarded = format!("for={address}");
    let user = format!("user-{number}");
    let forged = [
        ("x-forwarded-for", address.as_str()),
        ("x-real-ip", address.as_str()),
        ("forwarded", forwarded.as_str()),
        ("x-user", user.as_str()),
        ("x-remote-user", user.as_str()),
    ];
    let body = Program::new("print(1)").body();
    let url = format!("{url}/api/execute");
    cluster.send(Method::POST, &url, &forged, Some(&body)).await
}

/// Sends this many requests at the same moment, to one replica after another.
async fn burst(cluster: &Cluster, urls: &[String], count: usize) -> Result<Vec<Answer>> {
    let urls = urls.iter().cycle().take(count);
    try_join_all(
        urls.enumerate()
            .map(|(number, url)| request(cluster, url, number)),
    )
    .await
}

fn with_status(answers: &[Answer], status: u16) -> Vec<&Answer> {
    answers.iter().filter(|answer| answer.status == status).collect()
}

#[tokio::test]
async fn a_client_that_spreads_its_requests_gets_one_execution_a_replica_more_at_most() -> Result<()> {
    let cluster = Cluster::connect().await?;
    if api::replicas(&cluster).await?.is_empty() {
        eprintln!("SKIPPED: single replicas of this cluster can't be reached");
        return Ok(());
    }
    let limit = LIMIT.to_string();
    let variables = [
        ("CODEEXEC_RATE_LIMIT", limit.as_str()),
        ("CODEEXEC_MAX_CONCURRENT_PER_USER", "0"),
    ];
    let replicas = i32::try_from(REPLICAS)?;
    api::with_settings(&cluster, replicas, &variables, async || {
        let urls = urls(&cluster).await?;
        assert_eq!(urls.len(), REPLICAS);
        quiet_minute(&cluster).await?;
        let began = Instant::now();
        let answers = burst(&cluster, &urls, 60).await?;
        let accepted = with_status(&answers, 200);
        let refused = with_status(&answers, 429);
        let others: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(accepted.len() + refused.len(), answers.len(), "{others:?}");
        assert!(
            (LIMIT..=LIMIT + REPLICAS).contains(&accepted.len()),
            "{} were accepted",
            accepted.len()
        );
        for answer in &refused {
            assert_eq!(answer.body["code"], "rate_limited");
            assert_eq!(answer.headers["ratelimit-limit"], limit.as_str());
            let seconds: u64 = answer.retry_after.as_deref().context("no Retry-After")?.parse()?;
            assert!((1..=60).contains(&seconds), "{seconds} s");
        }

        // Neither a deleted record nor a cancelled execution gives anything back, and neither does a restart.
        let record = record_of(&accepted[0].body)?;
        cluster
            .executions()
            .delete(record, &DeleteParams::default())
            .await?;
        cluster.cancel(record_of(&accepted[1].body)?).await?;
        let pods: Api<Pod> = cluster.beside_control();
        for replica in api::replicas(&cluster).await? {
            pods.delete(&replica.pod, &DeleteParams::default().grace_period(0))
                .await?;
        }
        operator::is_at_full_strength(&cluster, "api").await?;
        let urls = self::urls(&cluster).await?;
        let again = burst(&cluster, &urls, 12).await?;
        if began.elapsed() < Duration::from_secs(55) {
            let further = with_status(&again, 200).len();
            let all = accepted.len() + further;
            assert!(
                all <= LIMIT + REPLICAS,
                "{further} more after {} were accepted",
                accepted.len()
            );
        } else {
            eprintln!("the restart took a minute, so it says nothing here");
        }

        wait_until("the same client is served again", A_WINDOW, async || {
            let answer = request(&cluster, &urls[0], 0).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn one_replica_counts_exactly() -> Result<()> {
    let cluster = Cluster::connect().await?;
    if api::replicas(&cluster).await?.is_empty() {
        eprintln!("SKIPPED: single replicas of this cluster can't be reached");
        return Ok(());
    }
    let variables = [
        ("CODEEXEC_RATE_LIMIT", "3"),
        ("CODEEXEC_MAX_CONCURRENT_PER_USER", "0"),
    ];
    api::with_settings(&cluster, 1, &variables, async || {
        let urls = urls(&cluster).await?;
        quiet_minute(&cluster).await?;
        let answers = burst(&cluster, &urls, 20).await?;
        assert_eq!(with_status(&answers, 200).len(), 3);
        Ok(())
    })
    .await
}

/// What the tests before have begun counts here as well.
async fn quiet_minute(cluster: &Cluster) -> Result<()> {
    wait_until("nobody has begun anything for a minute", A_WINDOW, async || {
        let records = cluster.executions().list_metadata(&ListParams::default()).await?;
        let newest = records.iter().filter_map(ResourceExt::creation_timestamp).max();
        let age = newest.map(|newest| Timestamp::now().duration_since(newest.0));
        Ok(age.is_none_or(|age| age.as_secs() > 61).then_some(()))
    })
    .await
}

async fn urls(cluster: &Cluster) -> Result<Vec<String>> {
    let replicas = api::replicas(cluster).await?;
    Ok(replicas.into_iter().map(|replica| replica.url).collect())
}
