//! What each account may do, as snapshots of `kubectl auth can-i --list`.
//!
//! What every account of a cluster may do (ask about itself, read the API's documentation) is left out, so
//! that the snapshots hold on any cluster. `UPDATE_SNAPSHOTS=1` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use codeexec_e2e::tools::kubectl;
use codeexec_e2e::{Cluster, operator::component_pods};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;

/// An account without any role of its own.
const NOBODY: &str = "system:serviceaccount:default:codeexec-e2e-nobody";

async fn rules(account: &str, namespace: &str) -> Result<BTreeSet<String>> {
    let arguments = [
        "auth",
        "can-i",
        "--list",
        "--no-headers",
        &format!("--as={account}"),
        "-n",
        namespace,
    ];
    let text = kubectl(&arguments).await?;
    Ok(text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect())
}

/// The rules of an account beyond those of everybody, in each namespace that matters to it.
async fn beyond_everybody(cluster: &Cluster, account: &str) -> Result<String> {
    let mut text = String::new();
    for (title, namespace) in [
        ("the executions' namespace", cluster.executions_namespace.as_str()),
        ("the release's namespace", cluster.namespace.as_str()),
        ("every other namespace", "default"),
    ] {
        let own = rules(account, namespace).await?;
        let everybodys = rules(NOBODY, namespace).await?;
        text += &format!("# in {title}: resources, non-resource URLs, resource names, verbs\n");
        for rule in own.difference(&everybodys) {
            text += &format!("{rule}\n");
        }
    }
    Ok(text)
}

async fn matches_its_snapshot(name: &str, cluster: &Cluster, account: &str) -> Result<()> {
    let rules = beyond_everybody(cluster, account).await?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/can-i-{name}.txt"));
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &rules)?;
    }
    let snapshot = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        rules,
        snapshot,
        "{name} may do other things than {}",
        path.display()
    );
    Ok(())
}

/// The account that the Pods of a component run as.
async fn account_of(cluster: &Cluster, component: &str) -> Result<String> {
    let pods: Vec<Pod> = component_pods(cluster, component).await?;
    let spec = pods
        .into_iter()
        .find_map(|pod| pod.spec)
        .with_context(|| format!("a Pod of {component}"))?;
    let name = spec.service_account_name.unwrap_or_default();
    Ok(format!("system:serviceaccount:{}:{name}", cluster.namespace))
}

#[tokio::test]
async fn the_operator_may_do_what_its_snapshot_says() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let account = account_of(&cluster, "operator").await?;
    matches_its_snapshot("operator", &cluster, &account).await
}

#[tokio::test]
async fn the_api_server_may_do_what_its_snapshot_says() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let account = account_of(&cluster, "api").await?;
    matches_its_snapshot("api", &cluster, &account).await
}

#[tokio::test]
async fn the_account_that_verifies_the_isolation_may_do_what_its_snapshot_says() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let account = format!("{}-verify", cluster.release);
    let accounts: Api<ServiceAccount> = cluster.beside_control();
    accounts.get(&account).await?;
    let account = format!("system:serviceaccount:{}:{account}", cluster.namespace);
    matches_its_snapshot("verify", &cluster, &account).await
}

#[tokio::test]
async fn the_account_of_executor_pods_may_do_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let accounts: Api<ServiceAccount> = cluster.beside_executions();
    accounts.get("codeexec-executor").await?;
    let account = format!(
        "system:serviceaccount:{}:codeexec-executor",
        cluster.executions_namespace
    );
    matches_its_snapshot("executor", &cluster, &account).await
}

#[tokio::test]
async fn the_api_server_may_read_the_hashes_of_keys_and_no_other_secret() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let account = account_of(&cluster, "api").await?;
    let whom = format!("--as={account}");
    for (secret, expected) in [
        (format!("secrets/{}-api-keys", cluster.release), "yes"),
        (format!("secrets/{}-initial-api-key", cluster.release), "no"),
        ("secrets".to_owned(), "no"),
    ] {
        let arguments = ["auth", "can-i", "get", &secret, "-n", &cluster.namespace, &whom];
        // It exits with 1 where the answer is no.
        let answer = codeexec_e2e::tools::run("kubectl", &arguments, "").await?;
        assert_eq!(answer.stdout.trim(), expected, "{secret}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_of_the_project_may_read_secrets_of_the_executions() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for component in ["operator", "api"] {
        let account = account_of(&cluster, component).await?;
        let whom = format!("--as={account}");
        let arguments = [
            "auth",
            "can-i",
            "get",
            "secrets",
            "-n",
            &cluster.executions_namespace,
            &whom,
        ];
        // It exits with 1 where the answer is no.
        let answer = codeexec_e2e::tools::run("kubectl", &arguments, "").await?;
        assert_eq!(answer.stdout.trim(), "no", "{account}");
    }
    Ok(())
}
