//! Each reason that an execution can end with, brought about for real.
//!
//! Those of the platform wait for the queue's patience, which e2e/run sets to a few seconds.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use codeexec_crds::{CodeExecution, CodeExecutionStatus, ExecutorPoolSpec, Phase, Reason};
use codeexec_e2e::{Answer, Cluster, Program, cluster::PATIENCE, unique};
use k8s_openapi::api::core::v1::{
    Pod, ResourceQuota, ResourceQuotaSpec, ResourceRequirements, ScopeSelector,
    ScopedResourceSelectorRequirement,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, EvictParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

async fn running(cluster: &Cluster) -> Result<(CodeExecution, Pod)> {
    let execution = cluster
        .apply("ended-from-outside", &Program::that_takes(25.0, "runs"))
        .await?;
    let pod = cluster.pod_that_printed(&execution, "runs").await?;
    Ok((execution, pod))
}

/// What holds for every execution that was ended from outside under its program.
async fn ended_from_outside(cluster: &Cluster, execution: &CodeExecution, reason: Reason) -> Result<()> {
    let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Failed), Some(reason)),
        "{status:?}"
    );
    // Some of it ran, so running it again could run it twice.
    assert_eq!(status.retryable, Some(false));
    assert_eq!(status.output.as_deref(), Some("runs\n"));
    assert!(status.error.is_some_and(|error| !error.is_empty()));
    Ok(())
}

#[tokio::test]
async fn a_pod_deleted_under_its_program_is_a_failure_that_says_so() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    cluster
        .executors()
        .delete(&pod.name_any(), &DeleteParams::default())
        .await?;
    ended_from_outside(&cluster, &execution, Reason::PodDeleted).await
}

#[tokio::test]
async fn a_pod_deleted_without_grace_is_a_failure_that_says_so() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    cluster
        .executors()
        .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
        .await?;
    ended_from_outside(&cluster, &execution, Reason::PodDeleted).await
}

#[tokio::test]
async fn a_pod_evicted_through_the_api_is_evicted() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    cluster
        .executors()
        .evict(&pod.name_any(), &EvictParams::default())
        .await?;
    ended_from_outside(&cluster, &execution, Reason::Evicted).await
}

#[tokio::test]
async fn a_pod_evicted_by_its_node_is_evicted() -> Result<()> {
    let cluster = Cluster::connect().await?;
    // The log counts as storage of the node. The kubelet looks every ten seconds and evicts what takes too much.
    let storage = || {
        Some(BTreeMap::from([(
            "ephemeral-storage".to_owned(),
            Quantity("100Ki".to_owned()),
        )]))
    };
    let resources = ResourceRequirements {
        limits: storage(),
        requests: storage(),
        claims: None,
    };
    let spec = ExecutorPoolSpec {
        resources: Some(resources),
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("small-disk", pool_spec(spec)).await?;
    let code = "import time\nprint('x' * 400_000, flush=True)\ntime.sleep(29)";
    let (_, status) = cluster
        .apply_and_wait("evicted", &Program::new(code).pool(&pool))
        .await?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Failed), Some(Reason::Evicted)),
        "{:?}",
        status.error
    );
    assert_eq!(status.retryable, Some(false));
    assert_eq!(status.output.map(|output| output.len()), Some(400_001));
    // In the kubelet's words.
    assert!(
        status
            .error
            .as_ref()
            .is_some_and(|error| error.contains("storage")),
        "{:?}",
        status.error
    );
    cluster.remove_pool(&pool).await
}

/// Writes into the status of a running Pod what a kubelet or a controller of another cluster would.
async fn write_status(cluster: &Cluster, pod: &Pod, status: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "status": status }));
    cluster
        .executors()
        .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

#[tokio::test]
async fn memory_that_ran_out_for_the_runner_too_is_out_of_memory() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    // As with cgroup v2, where the kernel kills all processes of a container together.
    let statuses = pod.status.clone().and_then(|status| status.container_statuses);
    let mut container = serde_json::to_value(statuses.context("a container")?.swap_remove(0))?;
    let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    container["state"] = json!({"terminated": {
        "exitCode": 137, "reason": "OOMKilled", "startedAt": now, "finishedAt": now,
    }});
    write_status(
        &cluster,
        &pod,
        json!({"phase": "Failed", "containerStatuses": [container]}),
    )
    .await?;
    ended_from_outside(&cluster, &execution, Reason::OutOfMemory).await
}

#[tokio::test]
async fn memory_that_ran_out_for_the_program_alone_is_out_of_memory() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (_, status) = cluster
        .apply_and_wait("out-of-memory", &Program::that_runs_out_of_memory())
        .await?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Failed), Some(Reason::OutOfMemory)),
        "{status:?}"
    );
    assert_eq!(status.output.as_deref(), Some("runs\n"));
    assert_eq!(status.retryable, Some(false));
    Ok(())
}

#[tokio::test]
async fn a_kill_of_its_own_is_a_signal_and_one_at_the_deadline_a_timeout() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)";
    let late = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(20)";
    let (kill, late) = (Program::new(kill), Program::new(late).timeout(1));
    let (killed, timed_out) = tokio::join!(
        cluster.apply_and_wait("killed", &kill),
        cluster.apply_and_wait("late", &late)
    );
    let (killed, timed_out) = (killed?.1, timed_out?.1);
    assert_eq!((killed.reason, killed.signal), (Some(Reason::Signaled), Some(9)));
    assert_eq!(
        (timed_out.phase, timed_out.reason, timed_out.signal),
        (Some(Phase::TimedOut), Some(Reason::DeadlineExceeded), None)
    );
    Ok(())
}

#[tokio::test]
async fn a_node_that_no_longer_answers_is_a_lost_node() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    let message = "node e2e which was running the Pod is unresponsive";
    write_status(&cluster, &pod, json!({"reason": "NodeLost", "message": message})).await?;
    // The node controller's next step, once the node has been away for long enough.
    cluster
        .executors()
        .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
        .await?;
    ended_from_outside(&cluster, &execution, Reason::NodeLost).await
}

#[tokio::test]
async fn a_pod_that_a_taint_drives_away_is_a_lost_node() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, pod) = running(&cluster).await?;
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .map_or(Ok(json!([])), serde_json::to_value)?;
    conditions.as_array_mut().context("a list")?.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
    }));
    write_status(&cluster, &pod, json!({ "conditions": conditions })).await?;
    cluster
        .executors()
        .delete(&pod.name_any(), &DeleteParams::default())
        .await?;
    ended_from_outside(&cluster, &execution, Reason::NodeLost).await
}

/// Sends a program to a pool that can't run it, both ways, and returns the record of the one by hand.
async fn could_not_run(cluster: &Cluster, pool: &str, reason: Reason) -> Result<CodeExecutionStatus> {
    let program = Program::new("print('ran')").pool(pool);
    let execution = cluster.apply("could-not-run", &program).await?;
    let (body, name) = (program.body(), execution.name_any());
    let (answer, status) = tokio::join!(cluster.post(&body), cluster.end_of(&name, PATIENCE));
    let Answer {
        status: http,
        retry_after,
        headers: _,
        body,
    } = answer?;
    assert_eq!(http, 503, "{body}");
    assert!(
        retry_after.is_some_and(|seconds| seconds.parse::<u32>().is_ok()),
        "{body}"
    );
    assert_eq!(body["reason"], json!(reason), "{body}");
    for field in ["error", "code", "id"] {
        assert!(
            body[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {body}"
        );
    }
    let status = status?;
    assert_eq!(
        (status.phase, status.reason),
        (Some(Phase::Failed), Some(reason)),
        "{status:?}"
    );
    // Nothing of it ran, so asking again is safe.
    assert_eq!(
        (status.retryable, &status.output),
        (Some(true), &None),
        "{status:?}"
    );
    assert!(status.error.as_ref().is_some_and(|error| !error.is_empty()));
    cluster.remove_pool(pool).await?;
    Ok(status)
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_and_can_be_retried() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let image = "codeexec.local/no-such-image:0".to_owned();
    let spec = ExecutorPoolSpec {
        image: Some(image.clone()),
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("no-image", pool_spec(spec)).await?;
    let status = could_not_run(&cluster, &pool, Reason::ImagePull).await?;
    assert!(
        status.error.as_ref().is_some_and(|error| error.contains(&image)),
        "{status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_image_without_a_runner_is_a_fault_of_the_installation() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let operators = codeexec_e2e::operator::pods(&cluster).await?;
    // Present on every node, and made for something else: it has no entrypoint.
    let image = operators
        .into_iter()
        .find_map(|pod| pod.spec?.containers.swap_remove(0).image);
    let spec = ExecutorPoolSpec {
        image,
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("no-runner", pool_spec(spec)).await?;
    let status = could_not_run(&cluster, &pool, Reason::InternalError).await?;
    let error = status.error.unwrap_or_default();
    assert!(
        error.contains("could not be started") && error.contains("command"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_pod_that_no_node_takes_is_unschedulable() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let nowhere = BTreeMap::from([("codeexec.dev/e2e".to_owned(), "no-such-node".to_owned())]);
    let spec = ExecutorPoolSpec {
        node_selector: Some(nowhere),
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("no-node", pool_spec(spec)).await?;
    could_not_run(&cluster, &pool, Reason::Unschedulable).await?;
    Ok(())
}

#[tokio::test]
async fn a_quota_without_room_is_named() -> Result<()> {
    let cluster = Cluster::connect().await?;
    // A quota for one priority only, so that the other tests' Pods are not under it.
    let name = unique("no-quota");
    let classes: Api<PriorityClass> = Api::all(cluster.client());
    let class = PriorityClass {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        value: 1,
        ..PriorityClass::default()
    };
    classes.create(&PostParams::default(), &class).await?;
    let quotas: Api<ResourceQuota> = cluster.beside_executions();
    quotas
        .create(&PostParams::default(), &quota_of_no_pods(&name))
        .await?;
    let spec = ExecutorPoolSpec {
        priority_class_name: Some(name.clone()),
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("no-quota", pool_spec(spec)).await?;

    let ended = could_not_run(&cluster, &pool, Reason::QuotaExceeded).await;
    quotas.delete(&name, &DeleteParams::default()).await?;
    classes.delete(&name, &DeleteParams::default()).await?;
    let error = ended?.error.unwrap_or_default();
    assert!(error.contains(&name), "{error}");
    Ok(())
}

fn quota_of_no_pods(priority_class: &str) -> ResourceQuota {
    let of_this_class = ScopedResourceSelectorRequirement {
        scope_name: "PriorityClass".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![priority_class.to_owned()]),
    };
    ResourceQuota {
        metadata: ObjectMeta {
            name: Some(priority_class.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ResourceQuotaSpec {
            hard: Some(BTreeMap::from([("pods".to_owned(), Quantity("0".to_owned()))])),
            scope_selector: Some(ScopeSelector {
                match_expressions: Some(vec![of_this_class]),
            }),
            scopes: None,
        }),
        status: None,
    }
}

/// The schema's defaults for what `ExecutorPoolSpec::default()` leaves at zero.
fn pool_spec(spec: ExecutorPoolSpec) -> ExecutorPoolSpec {
    ExecutorPoolSpec {
        max_idle_seconds: 3600,
        queue_limit: 100,
        ..spec
    }
}

#[tokio::test]
async fn a_pools_own_resources_are_its_pods() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let limits = BTreeMap::from([("memory".to_owned(), Quantity("256Mi".to_owned()))]);
    let resources = ResourceRequirements {
        limits: Some(limits),
        ..ResourceRequirements::default()
    };
    let spec = ExecutorPoolSpec {
        resources: Some(resources),
        ..ExecutorPoolSpec::default()
    };
    let pool = cluster.make_pool("small", pool_spec(spec)).await?;
    let execution = cluster
        .apply("small", &Program::that_takes(2.0, "runs").pool(&pool))
        .await?;
    let pod = cluster.pod_that_printed(&execution, "runs").await?;
    let container = pod.spec.context("a spec")?.containers.swap_remove(0);
    let limits = container
        .resources
        .and_then(|resources| resources.limits)
        .unwrap_or_default();
    assert_eq!(
        (limits["memory"].0.as_str(), limits["cpu"].0.as_str()),
        ("256Mi", "500m")
    );
    let status = cluster.end_of(&execution.name_any(), PATIENCE).await?;
    assert_eq!(status.phase, Some(Phase::Succeeded), "{status:?}");
    cluster.remove_pool(&pool).await
}

#[tokio::test]
async fn what_only_the_operator_can_refuse_is_rejected_before_it_runs() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let programs = [
        (Program::new("print(1)").args(["a\0b".to_owned()]), "args[0]"),
        (
            Program::new("print(1)").file("a", b"").file("a/b", b""),
            "files[1].path",
        ),
        (Program::new("print(1)").pool(unique("no-such-pool")), "pool"),
    ];
    for (program, names) in programs {
        let (_, status) = cluster.apply_and_wait("rejected", &program).await?;
        assert_eq!(
            (status.phase, status.reason),
            (Some(Phase::Failed), Some(Reason::Rejected)),
            "{status:?}"
        );
        assert_eq!((status.retryable, &status.pod_name), (Some(false), &None));
        assert!(
            status.error.as_ref().is_some_and(|error| error.contains(names)),
            "{status:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn exit_codes_and_signals_are_exact() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let raise = |signal: &str| format!("import signal\nsignal.raise_signal(signal.{signal})");
    for (code, reason, exit_code, signal) in [
        ("raise SystemExit(0)".to_owned(), Reason::Completed, Some(0), None),
        (
            "raise SystemExit(3)".to_owned(),
            Reason::NonZeroExit,
            Some(3),
            None,
        ),
        (
            "raise SystemExit('message')".to_owned(),
            Reason::NonZeroExit,
            Some(1),
            None,
        ),
        (raise("SIGTERM"), Reason::Signaled, None, Some(15)),
        (raise("SIGKILL"), Reason::Signaled, None, Some(9)),
        (raise("SIGSEGV"), Reason::Signaled, None, Some(11)),
    ] {
        let (_, status) = cluster.apply_and_wait("ends", &Program::new(&code)).await?;
        assert_eq!(
            (status.reason, status.exit_code, status.signal),
            (Some(reason), exit_code, signal),
            "{code}"
        );
        assert_eq!(status.error.is_some(), reason != Reason::Completed, "{code}");
    }
    Ok(())
}
