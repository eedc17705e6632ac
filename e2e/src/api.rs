//! The API server's processes: other settings for one test, and each replica by itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::Cluster;
use crate::operator::{component_pods, is_at_full_strength, process_in};

/// One replica.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its Pod's name.
    pub pod: String,
    /// Where it answers, beside the Service.
    pub url: String,
    /// Its process.
    pub pid: i32,
}

/// Every replica that is ready; nothing where the cluster runs elsewhere, so that they can't be reached.
///
/// # Errors
/// When the Kubernetes API does not answer.
pub async fn replicas(cluster: &Cluster) -> Result<Vec<Replica>> {
    let pods = component_pods(cluster, "api").await?;
    let found = pods.into_iter().filter_map(|pod| {
        let pid = process_in(&pod.name_any(), "codeexec-api")?;
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let host = match address.contains(':') {
            true => format!("[{address}]"),
            false => address,
        };
        Some(Replica {
            url: format!("http://{host}:{}", port(&pod)?),
            pod: pod.name_any(),
            pid,
        })
    });
    Ok(found.collect())
}

fn port(pod: &Pod) -> Option<i32> {
    let container = pod.spec.as_ref()?.containers.first()?;
    Some(container.ports.as_ref()?.first()?.container_port)
}

/// Runs a test while the API server has so many replicas and these variables, and gives it back its own
/// afterwards, however the test went.
///
/// # Errors
/// Those of the test, or when the Deployment does not come up.
pub async fn with_settings<T>(
    cluster: &Cluster,
    replicas: i32,
    variables: &[(&str, &str)],
    test: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    let deployments: Api<Deployment> = cluster.beside_control();
    let name = format!("{}-api", cluster.release);
    let before = deployments
        .get(&name)
        .await?
        .spec
        .context("a Deployment without a spec")?;
    let pod = before.template.spec.context("a Deployment without Pods")?;
    let container = pod.containers.first().context("a Pod without containers")?;
    let wanted = variables
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    let own = variables_before(container, variables)?;
    change(
        cluster,
        &deployments,
        &name,
        replicas,
        &container.name,
        wanted.collect(),
    )
    .await?;
    let result = test().await;
    let replicas = before.replicas.unwrap_or(1);
    change(cluster, &deployments, &name, replicas, &container.name, own).await?;
    result
}

/// What sets the variables to what they were.
fn variables_before(container: &Container, variables: &[(&str, &str)]) -> Result<Vec<Value>> {
    let env = container.env.iter().flatten();
    let known: BTreeMap<&str, _> = env.map(|variable| (variable.name.as_str(), variable)).collect();
    let own = variables.iter().map(|(name, _)| match known.get(name) {
        Some(variable) => serde_json::to_value(variable),
        None => Ok(json!({"$patch": "delete", "name": name})),
    });
    Ok(own.collect::<Result<_, _>>()?)
}

async fn change(
    cluster: &Cluster,
    deployments: &Api<Deployment>,
    name: &str,
    replicas: i32,
    container: &str,
    env: Vec<Value>,
) -> Result<()> {
    // Of a container's variables this changes only those that it names.
    let container = json!({"name": container, "env": env});
    let patch = json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}}});
    deployments
        .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    is_at_full_strength(cluster, "api").await
}
