//! What the admission policies refuse: Pods that are not as the operator makes them, programs in another's name,
//! and programs where nothing would run them.

use anyhow::{Context, Result, ensure};
use codeexec_crds::{LABEL_USER, Phase};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::tools;
use codeexec_e2e::{Cluster, Program, unique};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

/// One field of a Pod that is not as it must be.
#[derive(Debug, Deserialize)]
struct Deviation {
    name: String,
    /// RFC 6902, for the Pod.
    patch: json_patch::Patch,
    /// A part of what the policy says.
    message: String,
}

/// A Pod as the operator makes it, ready to be created under another name.
async fn executor_pod(cluster: &Cluster) -> Result<Value> {
    let execution = cluster.apply("model", &Program::that_takes(2.0, "runs")).await?;
    let pod = cluster.pod_that_printed(&execution, "runs").await?;
    cluster.end_of(&execution.name_any(), PATIENCE).await?;
    let (labels, owners) = (pod.metadata.labels, pod.metadata.owner_references);
    let mut spec = serde_json::to_value(pod.spec.context("a spec")?)?;
    let fields = spec.as_object_mut().context("an object")?;
    // What the cluster filled in.
    for field in [
        "nodeName",
        "tolerations",
        "priority",
        "preemptionPolicy",
        "serviceAccount",
        "schedulerName",
    ] {
        fields.remove(field);
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": unique("model"), "namespace": cluster.executions_namespace, "labels": labels,
            "ownerReferences": owners,
        },
        "spec": spec,
    }))
}

/// What the API server says to an object, which is stored nowhere.
async fn dry_run(object: &Value, more: &[&str]) -> Result<tools::Ran> {
    let arguments = [&["create", "--dry-run=server", "-o", "name", "-f", "-"], more].concat();
    tools::run("kubectl", &arguments, &object.to_string()).await
}

#[tokio::test]
async fn a_pod_that_differs_in_one_field_is_refused_and_the_field_is_named() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let pod = executor_pod(&cluster).await?;
    let as_it_is = dry_run(&pod, &[]).await?;
    ensure!(as_it_is.success, "{}", as_it_is.stderr);
    let deviations: Vec<Deviation> = serde_yaml::from_str(include_str!("admission/deviations.yaml"))?;
    ensure!(deviations.len() >= 30, "only {}", deviations.len());
    for Deviation { name, patch, message } in deviations {
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).with_context(|| format!("deviation {name}"))?;
        let ran = dry_run(&pod, &[]).await?;
        assert!(!ran.success, "{name} was let through");
        assert!(ran.stderr.contains(&message), "{name}: {}", ran.stderr);
    }
    Ok(())
}

/// Another Pod that is as it must be.
#[derive(Debug, Deserialize)]
struct Variant {
    name: String,
    patch: json_patch::Patch,
}

#[tokio::test]
async fn what_other_settings_and_clusters_make_of_the_pod_is_let_through() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let pod = executor_pod(&cluster).await?;
    let variants: Vec<Variant> = serde_yaml::from_str(include_str!("admission/allowed.yaml"))?;
    for Variant { name, patch } in variants {
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).with_context(|| format!("variant {name}"))?;
        let ran = dry_run(&pod, &[]).await?;
        // A RuntimeClass of that name need not exist here; the policy was asked before that shows.
        assert!(
            ran.success || ran.stderr.contains("RuntimeClass"),
            "{name}: {}",
            ran.stderr
        );
    }
    Ok(())
}

/// A change of a Pod that runs.
#[derive(Debug, Deserialize)]
struct Change {
    name: String,
    subresource: Option<String>,
    patch: Value,
    /// A part of what the policy says; without one it has nothing against it.
    message: Option<String>,
}

#[tokio::test]
async fn a_running_pod_takes_no_other_image_and_no_further_container() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let execution = cluster
        .apply("changed", &Program::that_takes(20.0, "runs"))
        .await?;
    let pod = cluster.pod_that_printed(&execution, "runs").await?.name_any();
    let changes: Vec<Change> = serde_yaml::from_str(include_str!("admission/changes.yaml"))?;
    let namespace = cluster.executions_namespace.as_str();
    for Change {
        name,
        subresource,
        patch,
        message,
    } in changes
    {
        let (patch, subresource) = (
            patch.to_string(),
            subresource.map(|name| format!("--subresource={name}")),
        );
        let mut arguments = vec![
            "-n",
            namespace,
            "patch",
            "pod",
            &pod,
            "--type=json",
            "--dry-run=server",
            "-o",
            "name",
            "-p",
            &patch,
        ];
        arguments.extend(subresource.as_deref());
        let ran = tools::run("kubectl", &arguments, "").await?;
        match message {
            None => assert!(ran.success, "{name}: {}", ran.stderr),
            Some(message) => assert!(
                !ran.success && ran.stderr.contains(&message),
                "{name}: {}",
                ran.stderr
            ),
        }
    }
    cluster.cancel(&execution.name_any()).await?;
    let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
    assert_eq!(status.phase, Some(Phase::Cancelled), "{status:?}");
    Ok(())
}

/// A user with the right to edit what is in the executions' namespace, and without any other.
const SOMEBODY: &str = "--as=somebody";
const EDITORS: &str = "--as-group=e2e-editors";

async fn let_somebody_edit(cluster: &Cluster) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "e2e-editors", "namespace": cluster.executions_namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "e2e-editors"}],
    });
    let ran = tools::run("kubectl", &["apply", "-f", "-"], &binding.to_string()).await?;
    ensure!(ran.success, "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn programs_run_in_one_s_own_name_only() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let_somebody_edit(&cluster).await?;
    let namespace = cluster.executions_namespace.as_str();
    let object = |user: Option<&str>, label: Option<&str>| {
        let labels = label.map(|value| json!({ LABEL_USER: value }));
        json!({
            "apiVersion": "codeexec.dev/v1alpha1", "kind": "CodeExecution",
            "metadata": {"name": unique("in-name-of"), "namespace": namespace, "labels": labels},
            "spec": {"code": "print(1)", "user": user.unwrap_or("anonymous")},
        })
    };
    let create = async |object: Value| dry_run(&object, &[SOMEBODY, EDITORS]).await;
    for (allowed, object, named) in [
        (true, object(None, None), ""),
        (true, object(Some("somebody"), None), ""),
        (false, object(Some("somebody-else"), None), "spec.user"),
        (false, object(Some("somebody"), Some("a-hash")), LABEL_USER),
    ] {
        let ran = create(object.clone()).await?;
        assert_eq!(ran.success, allowed, "{object}: {}", ran.stderr);
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_label_that_says_whose_it_is_can_not_be_changed_afterwards() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let_somebody_edit(&cluster).await?;
    let (execution, _) = cluster
        .apply_and_wait("labelled", &Program::new("print(1)"))
        .await?;
    let namespace = cluster.executions_namespace.as_str();
    let label = format!("{LABEL_USER}=another");
    let name = execution.name_any();
    let arguments = [
        "-n",
        namespace,
        "label",
        "--overwrite",
        "codeexecution",
        &name,
        &label,
        SOMEBODY,
        EDITORS,
    ];
    let ran = tools::run("kubectl", &arguments, "").await?;
    assert!(
        !ran.success && ran.stderr.contains(LABEL_USER),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    Ok(())
}
