//! The audit trail of an installation, and how one user's records are erased.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::CodeExecution;
use codeexec_e2e::cluster::{PATIENCE, record_of};
use codeexec_e2e::tools::kubectl;
use codeexec_e2e::{Cluster, Program, audit, unique, wait_until};
use codeexec_execution::code_sha256;
use kube::ResourceExt;
use serde_json::{Value, json};

/// The only line about an execution, which is written a moment after its end.
async fn line_of(cluster: &Cluster, execution: &CodeExecution) -> Result<Value> {
    let uid = execution.uid().context("no uid")?;
    let mut lines = wait_until("the execution has its line", PATIENCE, async || {
        let lines = audit::lines_of_execution(cluster, &uid).await?;
        Ok((!lines.is_empty()).then_some(lines))
    })
    .await?;
    ensure!(lines.len() == 1, "{lines:?}");
    Ok(lines.remove(0))
}

#[tokio::test]
async fn a_request_and_its_execution_leave_one_line_each_and_nothing_of_the_program() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let secret = unique("secret");
    let program = Program::new(format!("print('{secret}')\nraise SystemExit(3)"))
        .stdin(secret.as_str())
        .env("NAME", secret.as_str());
    let answer = cluster.run(&program).await?;
    let record = cluster.executions().get(record_of(&answer)?).await?;
    let name = record.name_any();
    let hash = code_sha256(&record.spec.code);

    let line = line_of(&cluster, &record).await?;
    for (field, expected) in [
        ("execution", json!(name)),
        ("user", json!(record.spec.user)),
        ("pool", json!("default")),
        ("phase", json!("Failed")),
        ("reason", json!("NonZeroExit")),
        ("exit_code", json!(3)),
        ("code_sha256", json!(hash)),
        ("seccomp", json!(true)),
        ("no_new_privileges", json!(true)),
        ("stdout_bytes", json!(secret.len() + 1)),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    let status = record.status.context("no status")?;
    assert_eq!(line["pod"], json!(status.pod_name));
    assert_eq!(line["node"], json!(status.node_name));
    for field in [
        "image_digest",
        "network_kubernetes_api",
        "run_ms",
        "total_ms",
        "vcpu_seconds",
    ] {
        ensure!(!line[field].is_null(), "{field} of {line}");
    }

    let log = audit::logs(&cluster, "api").await?;
    let mut requests = audit::lines(&log)?;
    requests.retain(|line| line["execution"] == name.as_str() && line["method"] == "POST");
    ensure!(requests.len() == 1, "{requests:?}");
    for (field, expected) in [
        ("event", json!("request")),
        ("user", json!(record.spec.user)),
        ("via", json!("api-keys")),
        ("path", json!("/api/execute")),
        ("status", json!(200)),
        ("code_sha256", json!(hash)),
    ] {
        assert_eq!(requests[0][field], expected, "{field} of {requests:?}");
    }
    let logs = log + &audit::logs(&cluster, "operator").await?;
    ensure!(
        !logs.contains(&secret),
        "a log holds what a program was given or printed"
    );
    ensure!(
        !logs.contains("Bearer") && !logs.contains("cex_"),
        "a log holds a key"
    );
    Ok(())
}

#[tokio::test]
async fn who_is_not_let_in_leaves_a_line() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let marker = unique("refused");
    let path = format!("/api/executions/{marker}");
    let headers = [("authorization", "Bearer cex_no-key")];
    let answer = cluster.send(reqwest::Method::GET, &path, &headers, None).await?;
    assert_eq!(answer.status, 401);
    let line = wait_until("the request has its line", PATIENCE, async || {
        let lines = audit::lines(&audit::logs(&cluster, "api").await?)?;
        Ok(lines.into_iter().find(|line| line["path"] == path.as_str()))
    })
    .await?;
    assert_eq!(
        (&line["status"], &line["error_code"]),
        (&json!(401), &json!("unauthenticated"))
    );
    ensure!(line["peer"].is_string() && line.get("user").is_none(), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_name_forges_no_line_and_one_that_never_ran_has_one() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let user = format!(
        "{}\n{{\"target\":\"audit\",\"user\":\"root\"}}\u{202e}\u{1b}[2K",
        unique("x")
    );
    let program = Program::new("print(1)").user(&user).pool("no-such-pool");
    let (execution, _) = cluster.apply_and_wait("forged", &program).await?;
    let line = line_of(&cluster, &execution).await?;
    assert_eq!(
        (&line["user"], &line["reason"]),
        (&json!(user), &json!("Rejected"))
    );
    let log = audit::logs(&cluster, "operator").await?;
    ensure!(!audit::lines(&log)?.iter().any(|line| line["user"] == "root"));
    ensure!(
        !log.contains('\u{202e}') && !log.contains('\u{1b}'),
        "a log moves a terminal's cursor"
    );
    Ok(())
}

#[tokio::test]
async fn erasing_one_user_leaves_nothing_of_theirs_and_all_of_the_others() -> Result<()> {
    let cluster = Cluster::connect().await?;
    // What a selector has a meaning for, and so has to be escaped in it.
    let user = format!("{},a=b\\c@example.com", unique("erased"));
    let escaped = user.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
    let other = unique("stays");
    let hello = Program::new("print('hello')");
    let (gone, _) = cluster
        .apply_and_wait("erased", &hello.clone().user(&user))
        .await?;
    let (stays, _) = cluster.apply_and_wait("stays", &hello.user(&other)).await?;
    let runs = cluster
        .apply("erased", &Program::that_takes(25.0, "begun").user(&user))
        .await?;
    cluster.pod_that_printed(&runs, "begun").await?;

    let selector = format!("--field-selector=spec.user={escaped}");
    let namespace = cluster.executions_namespace.as_str();
    kubectl(&["-n", namespace, "delete", "codeexecutions", &selector]).await?;
    for execution in [&gone, &runs] {
        let left = cluster
            .executions()
            .get_metadata_opt(&execution.name_any())
            .await?;
        ensure!(left.is_none(), "{} is still there", execution.name_any());
    }
    wait_until("its Pods are gone", Duration::from_secs(20), async || {
        Ok(cluster.pods_of(&runs).await?.is_empty().then_some(()))
    })
    .await?;
    let status = cluster.executions().get(&stays.name_any()).await?.status;
    assert_eq!(
        status.and_then(|status| status.output).as_deref(),
        Some("hello\n")
    );
    // That it ran, and that its record was deleted, stays in the trail.
    assert_eq!(line_of(&cluster, &runs).await?["phase"], "Deleted");
    assert_eq!(line_of(&cluster, &gone).await?["phase"], "Succeeded");
    Ok(())
}
