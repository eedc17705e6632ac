//! What `helm uninstall` removes and what it leaves, as the chart's README says, and that a new installation
//! takes over the rest. The last of all tests: it removes what the others need.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use codeexec_crds::Phase;
use codeexec_e2e::tools::{helm, kubectl};
use codeexec_e2e::{Cluster, Program, Witness, cluster::PATIENCE, operator, unique, wait_until};
use kube::ResourceExt;

/// Every object of a kind, as `kind/name`.
async fn names(kinds: &str, namespace: Option<&str>) -> Result<BTreeSet<String>> {
    let mut arguments = vec!["get", kinds, "-o", "name", "--ignore-not-found"];
    if let Some(namespace) = namespace {
        arguments.extend(["-n", namespace]);
    }
    Ok(kubectl(&arguments).await?.lines().map(str::to_owned).collect())
}

/// What is left that belongs to the release.
async fn left(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let beside_control = "deployments,services,serviceaccounts,networkpolicies,poddisruptionbudgets,roles,\
                          rolebindings,secrets,configmaps";
    let beside_executions = format!("{beside_control},resourcequotas,limitranges,leases,executorpools");
    let of_the_cluster = "crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,\
                          validatingadmissionpolicybindings,namespaces";
    let mut left = names(beside_control, Some(&cluster.namespace)).await?;
    left.extend(names(&beside_executions, Some(&cluster.executions_namespace)).await?);
    left.extend(names(of_the_cluster, None).await?);
    // What Kubernetes puts into every namespace and cluster is none of ours, and other pools are other tests'.
    let is_another_pool = |name: &str| name.starts_with("executorpool.") && !name.ends_with("/default");
    left.retain(|name| name.contains("codeexec") && !is_another_pool(name));
    Ok(left)
}

#[tokio::test]
async fn uninstalling_leaves_the_records_and_a_new_installation_takes_them_over() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (release, namespace) = (cluster.release.clone(), cluster.namespace.clone());
    let executions = cluster.executions_namespace.clone();
    let witness = Witness::start(&cluster).await?;
    let (finished, before) = cluster
        .apply_and_wait("finished", &Program::new("print('kept')"))
        .await?;
    let first = unique("runs-on");
    let running = cluster
        .apply("runs-on", &Program::that_takes(12.0, &first).timeout(25))
        .await?;
    cluster.pod_that_printed(&running, &first).await?;
    let values = helm(&["get", "values", &release, "-n", &namespace, "-o", "yaml"]).await?;

    helm(&[
        "uninstall",
        &release,
        "-n",
        &namespace,
        "--wait",
        "--timeout",
        "120s",
    ])
    .await?;
    let stays = [
        "customresourcedefinition.apiextensions.k8s.io/codeexecutions.codeexec.dev".to_owned(),
        "customresourcedefinition.apiextensions.k8s.io/executorpools.codeexec.dev".to_owned(),
        "executorpool.codeexec.dev/default".to_owned(),
        format!("lease.coordination.k8s.io/{}", operator::LEASE),
        format!("namespace/{executions}"),
        format!("namespace/{namespace}"),
        format!("networkpolicy.networking.k8s.io/{executions}-deny-all"),
    ];
    assert_eq!(left(&cluster).await?, BTreeSet::from(stays));

    // Records stay, and a running program is not disturbed.
    let record = cluster.executions().get(&finished.name_any()).await?;
    assert_eq!(record.status.as_ref(), Some(&before));
    let pods = cluster.pods_of(&running).await?;
    let phase = pods.first().and_then(|pod| pod.status.as_ref()?.phase.clone());
    assert_eq!(phase.as_deref(), Some("Running"));

    let file = std::env::temp_dir().join(format!("{}.yaml", unique("values")));
    fs::write(&file, values)?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/codeexec");
    let (chart, file_name) = (chart.to_string_lossy(), file.to_string_lossy());
    let install = [
        "install",
        &release,
        &chart,
        "-n",
        &namespace,
        "-f",
        &file_name,
        "--wait",
        "--timeout",
        "180s",
    ];
    let installed = helm(&install).await;
    fs::remove_file(&file)?;
    installed?;

    // The new operator reads the result from the log of the Pod that nobody watched.
    let status = cluster.end_of(&running.name_any(), PATIENCE).await?;
    ensure!(status.phase == Some(Phase::Succeeded), "{status:?}");
    ensure!(status.output == Some(format!("{first}\ndone\n")), "{status:?}");
    witness.saw_it_start_once(&running).await?;

    let again = wait_until("the new installation answers", PATIENCE, async || {
        let cluster = Cluster::connect().await.context("the new Service")?;
        Ok(cluster.run(&Program::new("print('again')")).await.ok())
    })
    .await?;
    assert_eq!(again["output"], "again\n");
    Ok(())
}
