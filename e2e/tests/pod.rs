//! The executor Pod, field by field.

use anyhow::{Context, Result};
use codeexec_crds::{EXECUTOR_CONTAINER, LABEL_EXECUTION, LABEL_MANAGED_BY, LABEL_POOL, MANAGED_BY};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::{Cluster, Program, unique, wait_until};
use kube::ResourceExt;
use serde_json::{Value, json};

/// A Pod while its program runs, with the execution it belongs to.
async fn running_pod(program: &Program) -> Result<(codeexec_crds::CodeExecution, Value)> {
    let cluster = Cluster::connect().await?;
    let execution = cluster.apply("pod", program).await?;
    let printed = cluster.pod_that_printed(&execution, "runs").await?;
    // Its spec changes once: the deadline is lowered when it is known that the program takes its time.
    let pod = wait_until("the Pod's deadline is lowered", PATIENCE, async || {
        let pod = cluster.executors().get(&printed.name_any()).await?;
        Ok((pod.metadata.generation > Some(1)).then_some(pod))
    })
    .await?;
    Ok((execution, serde_json::to_value(pod)?))
}

#[tokio::test]
async fn the_executor_pod_is_locked_down_in_every_field() -> Result<()> {
    let (execution, pod) = running_pod(&Program::that_takes(3.0, "runs").timeout(17)).await?;
    let expected = [
        ("/spec/automountServiceAccountToken", json!(false)),
        ("/spec/dnsConfig", json!({"nameservers": ["127.0.0.1"]})),
        ("/spec/dnsPolicy", json!("None")),
        ("/spec/enableServiceLinks", json!(false)),
        ("/spec/hostname", json!("codeexec")),
        ("/spec/hostNetwork", Value::Null),
        ("/spec/hostPID", Value::Null),
        ("/spec/hostIPC", Value::Null),
        ("/spec/shareProcessNamespace", Value::Null),
        ("/spec/initContainers", Value::Null),
        ("/spec/ephemeralContainers", Value::Null),
        ("/spec/restartPolicy", json!("Never")),
        ("/spec/serviceAccountName", json!("codeexec-executor")),
        ("/spec/terminationGracePeriodSeconds", json!(2)),
        (
            "/spec/securityContext",
            json!({
                "fsGroup": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            }),
        ),
        ("/spec/containers/1", Value::Null),
        ("/spec/containers/0/name", json!(EXECUTOR_CONTAINER)),
        ("/spec/containers/0/command", Value::Null),
        ("/spec/containers/0/args", Value::Null),
        ("/spec/containers/0/env/0/name", json!("CODEEXEC_PROBE_DNS")),
        (
            "/spec/containers/0/env/1",
            json!({"name": "CODEEXEC_LINGER_MS", "value": "50"}),
        ),
        ("/spec/containers/0/env/2", Value::Null),
        ("/spec/containers/0/envFrom", Value::Null),
        ("/spec/containers/0/ports", Value::Null),
        ("/spec/containers/0/imagePullPolicy", json!("IfNotPresent")),
        ("/spec/containers/0/livenessProbe", Value::Null),
        ("/spec/containers/0/readinessProbe", Value::Null),
        ("/spec/containers/0/lifecycle", Value::Null),
        ("/spec/containers/0/stdin", json!(true)),
        // A stream that was lost can be attached again.
        ("/spec/containers/0/stdinOnce", Value::Null),
        ("/spec/containers/0/tty", Value::Null),
        (
            "/spec/containers/0/resources",
            json!({
                "limits": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "64Mi"},
                "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
            }),
        ),
        (
            "/spec/containers/0/securityContext",
            json!({
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": false,
                "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            }),
        ),
        (
            "/metadata/ownerReferences",
            json!([{
                "apiVersion": "codeexec.dev/v1alpha1", "kind": "CodeExecution", "controller": true,
                "name": execution.name_any(), "uid": execution.uid(),
            }]),
        ),
        ("/metadata/finalizers", Value::Null),
    ];
    let mut wrong = Vec::new();
    for (field, value) in expected {
        let mut found = pod.pointer(field).cloned().unwrap_or_default();
        if field == "/metadata/ownerReferences" {
            // Whether it holds up the execution's deletion says nothing about the Pod.
            found[0]
                .as_object_mut()
                .context("an owner")?
                .remove("blockOwnerDeletion");
        }
        // An absent `false` and a written one are the same to Kubernetes.
        if found != value && !(value.is_null() && found == json!(false)) {
            wrong.push(format!("{field} is {found}, not {value}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn it_has_no_volume_of_any_kind() -> Result<()> {
    let (_, pod) = running_pod(&Program::that_takes(3.0, "runs")).await?;
    assert_eq!(pod["spec"]["volumes"], Value::Null, "{pod}");
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], Value::Null, "{pod}");
    Ok(())
}

#[tokio::test]
async fn what_it_writes_is_memory_of_bounded_size() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "\
import os
for folder in '/code', '/tmp', '/dev/shm':
    try:
        with open(folder + '/big', 'wb') as big:
            for _ in range(200):
                big.write(bytes(1 << 20))
        print(folder, 'has no bound')
    except OSError as error:
        print(folder, error.strerror, os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize >> 20)
    os.remove(folder + '/big')
";
    let (_, status) = cluster.apply_and_wait("fills-up", &Program::new(code)).await?;
    let full = "No space left on device 64";
    assert_eq!(
        status.output.unwrap_or_default(),
        format!("/code {full}\n/tmp {full}\n/dev/shm {full}\n")
    );
    Ok(())
}

#[tokio::test]
async fn its_labels_name_execution_pool_and_manager() -> Result<()> {
    let (execution, pod) = running_pod(&Program::that_takes(3.0, "runs")).await?;
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels[LABEL_EXECUTION], json!(execution.uid()));
    assert_eq!(labels[LABEL_POOL], "default");
    assert_eq!(labels[LABEL_MANAGED_BY], MANAGED_BY);
    Ok(())
}

#[tokio::test]
async fn its_deadline_leaves_the_program_its_timeout_and_the_runner_time_to_report() -> Result<()> {
    let (_, pod) = running_pod(&Program::that_takes(3.0, "runs").timeout(17)).await?;
    let deadline = pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .context("a deadline")?;
    let at = |pointer: &str| -> Result<k8s_openapi::jiff::Timestamp> {
        Ok(pod
            .pointer(pointer)
            .and_then(Value::as_str)
            .with_context(|| pointer.to_owned())?
            .parse()?)
    };
    let started = at("/status/startTime")?;
    let container = at("/status/containerStatuses/0/state/running/startedAt")?;
    // Its program starts within moments of its container; times are whole seconds here.
    let age = container.duration_since(started).as_secs();
    assert!(deadline >= age + 17 + 5, "{deadline} s after a start of {age} s");
    assert!(
        deadline <= age + 17 + 5 + 10,
        "{deadline} s after a start of {age} s"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_of_the_request_stands_in_the_pod() -> Result<()> {
    let secret = unique("request");
    let program = Program::new(format!(
        "import time\nprint('runs', flush=True)\ntime.sleep(3)  # {secret}"
    ))
    .stdin(&secret)
    .args([secret.clone()])
    .env("SECRET", &secret)
    .file(&secret, secret.as_bytes())
    .user(&secret);
    let (_, pod) = running_pod(&program).await?;
    assert!(!pod.to_string().contains(&secret), "{pod}");
    Ok(())
}

#[tokio::test]
async fn the_program_sees_nothing_of_the_cluster() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "\
import json, shutil, socket
os = shutil.os
print(json.dumps({
    'environment': sorted(os.environ),
    'token': os.path.exists('/var/run/secrets'),
    'hostname': socket.gethostname(),
    'uid': os.getuid(), 'gid': os.getgid(), 'cwd': os.path.samefile('.', '/code'),
    'writable root': os.access('/', os.W_OK),
    'resolvers': open('/etc/resolv.conf').read(),
}))
";
    let (execution, status) = cluster
        .apply_and_wait("sees-nothing", &Program::new(code))
        .await?;
    let output = status.output.unwrap_or_default();
    let seen: Value =
        serde_json::from_str(&output).with_context(|| format!("{output} {:?}", status.error))?;
    assert_eq!(
        (&seen["token"], &seen["writable root"]),
        (&json!(false), &json!(false)),
        "{seen}"
    );
    assert_eq!(
        (&seen["hostname"], &seen["cwd"]),
        (&json!("codeexec"), &json!(true)),
        "{seen}"
    );
    assert_eq!(
        (&seen["uid"], &seen["gid"]),
        (&json!(1000), &json!(1000)),
        "{seen}"
    );
    assert!(!output.contains("KUBERNETES"), "{seen}");
    let uid = execution.uid().context("a uid")?;
    for name in [&execution.name_any(), &uid, &cluster.executions_namespace] {
        assert!(!output.contains(name.as_str()), "{seen}");
    }
    Ok(())
}
