//! Objects that this version can't read: written by a later one, or by a schema that was loosened.
//!
//! The schema is changed for the whole cluster for a moment, so nothing else runs beside this test.

use anyhow::{Context, Result};
use codeexec_crds::{CodeExecution, Phase};
use codeexec_e2e::{Cluster, Program, cluster::PATIENCE, operator, unique, wait_until};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

const NAME: &str = "codeexecutions.codeexec.dev";

/// Replaces the schema of one property of the definition.
async fn set_schema(cluster: &Cluster, schema: Value) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let patch: Patch<()> = Patch::Json(serde_json::from_value(json!([
        {"op": "replace", "path": "/spec/versions/0/schema", "value": {"openAPIV3Schema": schema}},
    ]))?);
    definitions.patch(NAME, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn get_schema(cluster: &Cluster) -> Result<Value> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let definition = serde_json::to_value(definitions.get(NAME).await?)?;
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema");
    schema.cloned().context("a schema")
}

/// A schema that takes anything as spec and status, but for the fields that can be selected by.
fn loosened() -> Value {
    let anything_with = |field: &str| {
        json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {field: {"type": "string"}},
        })
    };
    json!({"type": "object", "properties": {"spec": anything_with("user"), "status": anything_with("phase")}})
}

fn foreign_objects() -> [(&'static str, Value, Option<Value>); 5] {
    [
        (
            "future-language",
            json!({"code": "puts 1", "language": "ruby"}),
            None,
        ),
        (
            "future-field",
            json!({"code": "print(1)", "priority": {"class": "high"}, "timeoutSeconds": "30s"}),
            None,
        ),
        ("no-code", json!({"language": "python"}), None),
        (
            "malformed",
            json!({"code": 5, "args": {"a": 1}, "files": "none", "timeoutSeconds": 1e30}),
            None,
        ),
        (
            "future-phase",
            json!({"code": "print(1)"}),
            Some(json!({"phase": "Hibernated", "output": 7})),
        ),
    ]
}

async fn create_foreign_objects(cluster: &Cluster) -> Result<Vec<String>> {
    let kind = ApiResource::erase::<CodeExecution>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client(), &cluster.executions_namespace, &kind);
    let mut names = Vec::new();
    for (prefix, spec, status) in foreign_objects() {
        let name = unique(prefix);
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "codeexec.dev/v1alpha1", "kind": "CodeExecution", "metadata": {"name": name}, "spec": spec,
        }))?;
        // The new schema takes a moment to come into force.
        wait_until("the loosened schema takes it", PATIENCE, async || {
            Ok(api.create(&PostParams::default(), &object).await.ok())
        })
        .await?;
        if let Some(status) = status {
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&name, &PatchParams::default(), &patch).await?;
        }
        names.push(name);
    }
    Ok(names)
}

/// Programs still run, by hand and over HTTP.
async fn works(cluster: &Cluster) -> Result<()> {
    let (_, status) = cluster
        .apply_and_wait("beside-foreign", &Program::new("print(1)"))
        .await?;
    assert_eq!(status.phase, Some(Phase::Succeeded), "{status:?}");
    assert_eq!(cluster.run(&Program::new("print(2)")).await?["output"], "2\n");
    Ok(())
}

#[tokio::test]
async fn a_malformed_or_future_object_stalls_nobody() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let schema = get_schema(&cluster).await?;
    set_schema(&cluster, loosened()).await?;
    let created = create_foreign_objects(&cluster).await;
    set_schema(&cluster, schema).await?;
    let names = created?;

    works(&cluster).await?;
    // Those who start now meet the objects in their first list, not as an event.
    let before = operator::leader(&cluster).await?;
    for component in ["operator", "api"] {
        for pod in operator::component_pods(&cluster, component).await? {
            let pods: Api<k8s_openapi::api::core::v1::Pod> = cluster.beside_control();
            pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(1))
                .await?;
        }
    }
    operator::leader_other_than(&cluster, &before, PATIENCE).await?;
    for component in ["operator", "api"] {
        operator::is_at_full_strength(&cluster, component).await?;
    }
    works(&cluster).await?;

    for name in names {
        cluster
            .executions()
            .delete(&name, &DeleteParams::default())
            .await?;
    }
    works(&cluster).await
}
