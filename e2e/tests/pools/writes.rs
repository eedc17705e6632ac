//! What a fast execution costs the Kubernetes API, by its own audit log.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::{Cluster, PoolOf, wait_until};
use jiff::Timestamp;
use serde_json::Value;

use super::BESIDE;

/// An execution is fast that has ended before its status would say Running.
const FAST_MS: u64 = 120;

/// Tries to have one that is, on a machine that does other things too.
const TRIES: u32 = 10;

/// One write, as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    at: Timestamp,
    account: String,
    what: String,
    name: String,
}

/// The writes of an installation's accounts since `begin`, as far as they are in the log. The leader's heartbeat is
/// not one of them: it comes once in a while, whatever runs.
fn writes(cluster: &Cluster, path: &str, begin: Timestamp) -> Result<Vec<Write>> {
    let accounts = format!("system:serviceaccount:{}:", cluster.namespace);
    let text = fs::read_to_string(path).with_context(|| format!("no audit log {path}"))?;
    let mut writes = Vec::new();
    // The newest are the last ones; a line that is not whole yet is none.
    for line in text.lines().rev() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let field = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let at: Timestamp = field("/requestReceivedTimestamp").parse()?;
        // Watches that ended late are in between, so that the order is not exact.
        if at + Duration::from_secs(30) < begin && field("/verb") != "watch" {
            break;
        }
        let (account, resource) = (
            field("/user/username").strip_prefix(&accounts),
            field("/objectRef/resource"),
        );
        let Some(account) = account else { continue };
        let reads = ["get", "list", "watch"].contains(&field("/verb"));
        if at < begin || reads || resource == "leases" {
            continue;
        }
        let part = field("/objectRef/subresource");
        let slash = if part.is_empty() { "" } else { "/" };
        writes.push(Write {
            at,
            account: account.to_owned(),
            what: format!("{} {resource}{slash}{part}", field("/verb")),
            name: field("/objectRef/name").to_owned(),
        });
    }
    writes.sort_by_key(|write| write.at);
    Ok(writes)
}

#[tokio::test]
async fn a_fast_execution_on_a_warm_pod_costs_three_writes() -> Result<()> {
    let Ok(path) = std::env::var("E2E_AUDIT_LOG") else {
        eprintln!("SKIPPED: no audit log (E2E_AUDIT_LOG says where it is)");
        return Ok(());
    };
    let _alone = BESIDE.write().await;
    let cluster = Cluster::connect().await?;
    PoolOf::pods(2)
        .run_full(&cluster, async |pool| {
            for _ in 0..TRIES {
                pool.is_full().await?;
                // What other executions left to be done is done, and in the log.
                wait_until("nothing has been written for a second", PATIENCE, async || {
                    let since = Timestamp::now() - Duration::from_secs(1);
                    Ok(writes(&cluster, &path, since)?.is_empty().then_some(()))
                })
                .await?;
                let begin = Timestamp::now();
                let answer = cluster.run(&pool.program("print(1)")).await?;
                let end = Timestamp::now();
                ensure!(answer["warm"] == true && answer["output"] == "1\n", "{answer}");
                if answer["executionTime"].as_u64().is_none_or(|took| took > FAST_MS) {
                    eprintln!("not a fast one: {} ms", answer["executionTime"]);
                    continue;
                }
                // Labels and the Pod's end come after the answer: when they are in the log, so is what came before.
                let name = answer["id"].as_str().context("an id")?;
                let all = wait_until("the log has what followed the answer", PATIENCE, async || {
                    let all = writes(&cluster, &path, begin)?;
                    let labelled = |write: &Write| write.what == "patch codeexecutions" && write.name == name;
                    Ok(all.iter().any(labelled).then_some(all))
                })
                .await?;
                let during: Vec<Write> = all.into_iter().filter(|write| write.at <= end).collect();
                return check(&cluster, &during, name).await;
            }
            anyhow::bail!("none of {TRIES} executions took less than {FAST_MS} ms")
        })
        .await
}

async fn check(cluster: &Cluster, writes: &[Write], name: &str) -> Result<()> {
    let status = cluster.executions().get(name).await?.status.unwrap_or_default();
    let pod = status.pod_name.unwrap_or_default();
    let (api, operator) = (
        format!("{}-api", cluster.release),
        format!("{}-operator", cluster.release),
    );
    let expected = [
        (api.as_str(), "create codeexecutions", name),
        (&operator, "patch pods", &pod),
        (&operator, "patch codeexecutions/status", name),
    ];
    let found: Vec<_> = writes
        .iter()
        .map(|write| (write.account.as_str(), write.what.as_str(), write.name.as_str()))
        .collect();
    let list: Vec<String> = writes.iter().map(|write| format!("{write:?}")).collect();
    ensure!(
        found == expected,
        "not these three: {expected:?}, but\n{}",
        list.join("\n")
    );
    Ok(())
}
