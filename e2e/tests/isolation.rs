//! What an installation says of its own isolation, and that it refuses to run without what it requires.
//!
//! The chart's values change in between, so nothing else runs beside these tests.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::{ExecutorPool, ExecutorPoolSpec, Isolation, Phase, Reachability, Reason};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::tools::{self, kubectl};
use codeexec_e2e::{Cluster, Program, operator, unique, wait_until};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;

/// One test at a time, also where somebody runs them without `--test-threads 1`.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How long the network's silence takes to be told, and a Pod to start.
const SETTLED: &str = "import time\ntime.sleep(1.5)";

/// Sets `isolation.require` and waits until the operator works by it.
async fn require(cluster: &Cluster, layers: &[&str]) -> Result<()> {
    operator::set_values(cluster, &[format!("isolation.require={}", json!(layers))]).await
}

async fn isolation_of(cluster: &Cluster, program: &Program) -> Result<Isolation> {
    let (_, status) = cluster.apply_and_wait("isolation", program).await?;
    ensure!(status.phase == Some(Phase::Succeeded), "{status:?}");
    status.isolation.context("a status with its isolation")
}

#[tokio::test]
async fn a_status_says_which_layers_were_in_force() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    // The program looks for itself; the status must say the same.
    let code = "import time\n\
                status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n\
                own = open('/proc/self/uid_map').read().split() != ['0', '0', '4294967295']\n\
                time.sleep(1.5)\n\
                print(own, status['Seccomp'].strip(), status['NoNewPrivs'].strip())";
    let (_, status) = cluster.apply_and_wait("layers", &Program::new(code)).await?;
    let isolation = status.isolation.context("an isolation")?;
    let own = if isolation.user_namespace { "True" } else { "False" };
    assert_eq!(status.output, Some(format!("{own} 2 1\n")));
    assert!(isolation.seccomp && isolation.no_new_privileges, "{isolation:?}");
    // Each target has been looked at by now.
    let network = isolation.network;
    for target in [network.kubernetes_api, network.metadata, network.dns] {
        assert_ne!(target, Reachability::Unknown, "{network:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_pool_and_the_metrics_say_it_too() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let isolation = isolation_of(&cluster, &Program::new(SETTLED)).await?;
    let pools: Api<ExecutorPool> = cluster.beside_executions();
    // Written after the result, which no client waits for.
    let status = wait_until("the pool's status tells it", PATIENCE, async || {
        let status = pools.get("default").await?.status.unwrap_or_default();
        Ok((status.isolation.as_ref() == Some(&isolation)).then_some(status))
    })
    .await?;
    let conditions = status.conditions.unwrap_or_default();
    let isolated = conditions
        .iter()
        .find(|condition| condition.type_ == "Isolated")
        .context("a condition")?;
    assert_eq!(isolated.status, "True", "{isolated:?}");
    assert!(isolated.message.contains("in force: seccomp"), "{isolated:?}");

    let metrics = operator::metrics(&cluster).await?;
    for line in [
        "codeexec_isolation_layer{pool=\"default\",layer=\"seccomp\"} 1",
        "codeexec_executions_total{phase=\"Succeeded\",reason=\"Completed\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_runtime_class_by_name_is_the_pod_s_and_the_record_s() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    // The cluster's own runtime under another name: what matters here is that the name gets there.
    let name = unique("again");
    let classes: Api<RuntimeClass> = Api::all(cluster.client());
    let class = RuntimeClass {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        handler: "runc".to_owned(),
        ..RuntimeClass::default()
    };
    classes.create(&PostParams::default(), &class).await?;
    let spec = ExecutorPoolSpec {
        runtime_class_name: Some(name.clone()),
        max_idle_seconds: 3600,
        queue_limit: 100,
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("again", spec).await?;
    let isolation = isolation_of(&cluster, &Program::new("print(1)").pool(&pool)).await;
    cluster.remove_pool(&pool).await?;
    classes.delete(&name, &DeleteParams::default()).await?;
    assert_eq!(isolation?.runtime_class, Some(name));
    Ok(())
}

#[tokio::test]
async fn without_a_required_layer_nothing_runs_and_the_answer_says_what_to_do() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let has = isolation_of(&cluster, &Program::new(SETTLED)).await?;
    require(&cluster, &["seccomp", "runtimeClass"]).await?;
    let refused = refusal(&cluster).await;
    // A layer that is there holds nothing up.
    let met = if has.landlock_abi > 0 {
        vec!["seccomp", "landlock"]
    } else {
        vec!["seccomp"]
    };
    require(&cluster, &met).await?;
    let ran = cluster.run(&Program::new("print('ran')")).await;
    require(&cluster, &["networkPolicy"]).await?;
    let (_, network) = cluster
        .apply_and_wait("network", &Program::new("print('ran')"))
        .await?;
    let verified = verify(&cluster, &["networkPolicy"]).await;
    require(&cluster, &[]).await?;

    let text = refused?;
    assert!(
        text.contains("runtimeClass") && text.contains("executor.runtimeClass"),
        "{text}"
    );
    assert!(!text.contains("seccomp"), "{text}");
    assert_eq!(ran?["output"], "ran\n");
    let open = [has.network.kubernetes_api, has.network.metadata, has.network.dns]
        .iter()
        .any(|target| *target != Reachability::Blocked);
    if open {
        assert_eq!(network.reason, Some(Reason::IsolationUnavailable), "{network:?}");
        assert_eq!((network.retryable, network.output), (Some(true), None));
        let (success, table) = verified?;
        assert!(
            !success && table.contains("what to do: use a network plugin"),
            "{table}"
        );
    } else {
        assert_eq!(network.reason, Some(Reason::Completed), "{network:?}");
    }
    assert_eq!(
        cluster.run(&Program::new("print('again')")).await?["output"],
        "again\n"
    );
    Ok(())
}

/// The text of a 503 for want of isolation.
async fn refusal(cluster: &Cluster) -> Result<String> {
    let answer = cluster.post(&Program::new("print('ran')").body()).await?;
    ensure!(answer.status == 503, "{answer:?}");
    ensure!(
        answer.body["reason"] == json!("IsolationUnavailable"),
        "{answer:?}"
    );
    ensure!(answer.retry_after.is_some(), "{answer:?}");
    Ok(answer.body["error"].as_str().unwrap_or_default().to_owned())
}

/// Runs `helm test`; whether it succeeded, and the table that its Pod printed.
async fn verify(cluster: &Cluster, required: &[&str]) -> Result<(bool, String)> {
    let arguments = [
        "test",
        &cluster.release,
        "-n",
        &cluster.namespace,
        "--timeout",
        "240s",
    ];
    let ran = tools::run("helm", &arguments, "").await?;
    let pod = format!("{}-verify", cluster.release);
    let log = kubectl(&["-n", &cluster.namespace, "logs", &pod]).await?;
    ensure!(
        required.iter().all(|layer| log.contains(layer)),
        "helm test: {}{}\n{log}",
        ran.stdout,
        ran.stderr
    );
    Ok((ran.success, log))
}

#[tokio::test]
async fn helm_test_tries_hostile_programs_and_shows_a_table() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let (success, table) = verify(&cluster, &["seccomp", "PROGRAMS"]).await?;
    assert!(success, "{table}");
    assert!(table.contains("every program was held"), "{table}");
    eprintln!("{table}");
    // Nothing of it stays.
    wait_until("its records are gone", Duration::from_secs(10), async || {
        let records = cluster.executions().list_metadata(&Default::default()).await?;
        let left = records
            .iter()
            .any(|record| record.name_any().starts_with("verify-"));
        Ok((!left).then_some(()))
    })
    .await
}
