//! CodeExecutions written by hand: Kubernetes itself refuses those that break a bound.

use anyhow::{Context, Result};
use codeexec_crds::CodeExecution;
use codeexec_e2e::{Cluster, Program, cluster::PATIENCE, unique};
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, Status};
use kube::{Api, Error};
use serde_json::{Value, json};

/// Untyped, because what the types can't say is what these tests write.
fn untyped(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<CodeExecution>(&());
    Api::namespaced_with(cluster.client(), &cluster.executions_namespace, &kind)
}

fn object(name: &str, spec: &Value) -> Result<DynamicObject> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "codeexec.dev/v1alpha1",
        "kind": "CodeExecution",
        "metadata": {"name": name},
        "spec": spec,
    }))?)
}

fn refusal<T>(result: kube::Result<T>) -> Result<Option<Box<Status>>> {
    match result {
        Ok(_) => Ok(None),
        Err(Error::Api(status)) => Ok(Some(status)),
        Err(other) => Err(other.into()),
    }
}

/// A good spec with some fields changed, and what the refusal has to name.
fn broken_specs() -> Vec<(Value, &'static str)> {
    let file = |path: &str, content: &str| json!({"files": [{"path": path, "content": content}]});
    let many = |count: usize, item: fn(usize) -> Value| -> Value { (0..count).map(item).collect() };
    vec![
        (json!({"code": null}), "spec.code"),
        (json!({"code": ""}), "spec.code"),
        (json!({"code": " \n\t"}), "must not be blank"),
        (json!({"code": "x".repeat(10_001)}), "spec.code"),
        (json!({"code": "é".repeat(10_001)}), "spec.code"),
        (json!({"code": 5}), "spec.code"),
        (json!({"language": "ruby"}), "spec.language"),
        (json!({"timeoutSeconds": 0}), "spec.timeoutSeconds"),
        (json!({"timeoutSeconds": -1}), "spec.timeoutSeconds"),
        (json!({"timeoutSeconds": 31}), "spec.timeoutSeconds"),
        (json!({"timeoutSeconds": 1.5}), "spec.timeoutSeconds"),
        (json!({"timeoutSeconds": "5"}), "spec.timeoutSeconds"),
        (json!({"user": ""}), "spec.user"),
        (json!({"user": "x".repeat(254)}), "spec.user"),
        (json!({"pool": ""}), "spec.pool"),
        (json!({"pool": "x".repeat(254)}), "spec.pool"),
        (json!({"stdin": "x".repeat(65_537)}), "spec.stdin"),
        (
            json!({"stdin": "é".repeat(32_769)}),
            "stdin must be at most 65536 bytes",
        ),
        (json!({"args": many(65, |_| json!("a"))}), "spec.args"),
        (json!({"args": ["x".repeat(32_769)]}), "spec.args"),
        (
            json!({"args": ["x".repeat(16_384), "x".repeat(16_385)]}),
            "args must be at most 32768 bytes in all",
        ),
        (
            json!({"env": many(65, |at| json!({"name": format!("A{at}"), "value": ""}))}),
            "spec.env",
        ),
        (json!({"env": [{"name": "", "value": "1"}]}), "spec.env[0].name"),
        (json!({"env": [{"name": "1A", "value": "1"}]}), "spec.env[0].name"),
        (
            json!({"env": [{"name": "A=B", "value": "1"}]}),
            "spec.env[0].name",
        ),
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
            "spec.env[1]",
        ),
        (
            json!({"env": [{"name": "A", "value": "x".repeat(32_769)}]}),
            "spec.env[0].value",
        ),
        (
            json!({"env": [{"name": "A", "value": "x".repeat(32_768)}]}),
            "env must be at most 32768 bytes in all",
        ),
        (
            json!({"files": many(33, |at| json!({"path": format!("f{at}"), "content": ""}))}),
            "spec.files",
        ),
        (file("", ""), "spec.files[0].path"),
        (file("/etc/passwd", ""), "path must stay below the work directory"),
        (file("../x", ""), "path must stay below the work directory"),
        (file("a/../x", ""), "path must stay below the work directory"),
        (file("a//x", ""), "path must stay below the work directory"),
        (file("./x", ""), "path must stay below the work directory"),
        (file("x/", ""), "path must stay below the work directory"),
        (
            file(&"é".repeat(128), ""),
            "path must stay below the work directory",
        ),
        (file("a", "?"), "spec.files[0].content"),
        (
            json!({"files": [{"path": "a", "content": ""}, {"path": "a", "content": ""}]}),
            "spec.files[1]",
        ),
        (
            json!({"files": [
                {"path": "a", "content": "A".repeat(131_072)}, {"path": "b", "content": "A".repeat(131_076)},
            ]}),
            "files must be at most 262144 bytes of base64 in all",
        ),
        (
            json!({"ttlSecondsAfterFinished": 59}),
            "spec.ttlSecondsAfterFinished",
        ),
    ]
}

#[tokio::test]
async fn a_code_execution_that_breaks_a_bound_is_refused_by_kubernetes() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let mut wrong = Vec::new();
    for (fields, names) in broken_specs() {
        let mut spec = json!({"code": "print(1)", "user": "nobody"});
        for (name, value) in fields.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        let created = untyped(&cluster)
            .create(&PostParams::default(), &object(&unique("broken"), &spec)?)
            .await;
        match refusal(created)? {
            Some(status) if status.code == 422 && status.message.contains(names) => {}
            other => wrong.push(format!("{names}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn kubectl_refuses_a_field_that_does_not_exist() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let object = object(
        &unique("unknown-field"),
        &json!({"code": "print(1)", "timeout": 5}),
    )?;
    let arguments = ["create", "-n", &cluster.executions_namespace, "-f", "-"];
    let ran = codeexec_e2e::tools::run("kubectl", &arguments, &serde_json::to_string(&object)?).await?;
    assert!(!ran.success && ran.stderr.contains("spec.timeout"), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn no_field_of_a_spec_can_be_changed_added_or_removed() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let program = Program::new("print(1)")
        .stdin("a")
        .args(["a".to_owned()])
        .env("A", "a")
        .file("a", b"a")
        .timeout(5);
    let (full, _) = cluster.apply_and_wait("full", &program).await?;
    let (bare, _) = cluster.apply_and_wait("bare", &Program::new("print(1)")).await?;
    let changes = [
        (json!({"code": "print(2)"}), "code"),
        (json!({"timeoutSeconds": 6}), "timeoutSeconds"),
        (json!({"user": "somebody-else"}), "user"),
        (json!({"pool": "another"}), "pool"),
        (json!({"ttlSecondsAfterFinished": 100}), "ttlSecondsAfterFinished"),
        (json!({"stdin": "b"}), "stdin"),
        (json!({"args": ["b"]}), "args"),
        (json!({"env": [{"name": "A", "value": "b"}]}), "env"),
        (json!({"files": [{"path": "a", "content": "Yg=="}]}), "files"),
    ];
    let removals = ["stdin", "args", "env", "files"].map(|field| (json!({field: null}), field));
    let mut wrong = Vec::new();
    for (execution, patches) in [(&full, &changes[..]), (&full, &removals), (&bare, &changes)] {
        for (patch, field) in patches {
            let patched = untyped(&cluster)
                .patch(
                    &execution.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(json!({"spec": patch})),
                )
                .await;
            match refusal(patched)? {
                Some(status) if status.message.contains(&format!("{field} is immutable")) => {}
                other => wrong.push(format!("{patch}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn cancel_can_be_set_but_not_taken_back() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let execution = cluster
        .apply("cancel-once", &Program::that_takes(20.0, "runs"))
        .await?;
    let name = execution.name_any();
    cluster.cancel(&name).await?;
    let take_back = Patch::Merge(json!({"spec": {"cancel": false}}));
    let patched = cluster
        .executions()
        .patch(&name, &PatchParams::default(), &take_back)
        .await;
    let status = refusal(patched)?.context("cancel was taken back")?;
    assert!(
        status.message.contains("cancel can be set, but not taken back"),
        "{status:?}"
    );
    cluster.end_of(&name, PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_code_execution_in_another_namespace_is_refused_and_told_where_to_go() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let elsewhere: Api<CodeExecution> = Api::namespaced(cluster.client(), "default");
    let execution = Program::new("print(1)").resource(&unique("elsewhere"));
    let status =
        refusal(elsewhere.create(&PostParams::default(), &execution).await)?.context("it was accepted")?;
    assert!(
        status.message.contains(&cluster.executions_namespace),
        "{status:?}"
    );
    Ok(())
}
