//! The resource as people meet it: kubectl, and CodeExecutions applied by hand.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use codeexec_crds::Phase;
use codeexec_e2e::tools::{kubectl, run};
use codeexec_e2e::{Cluster, Program, cluster, unique, wait_until};
use kube::ResourceExt;
use serde_json::{Value, json};

/// The words of each line; kubectl aligns its columns by what stands in them.
fn table(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[tokio::test]
async fn get_shows_the_columns_of_the_design() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let program = Program::new("raise SystemExit(3)");
    let (execution, status) = cluster.apply_and_wait("columns", &program).await?;
    let (name, namespace) = (execution.name_any(), cluster.executions_namespace.as_str());

    let narrow = table(&kubectl(&["get", "cex", &name, "-n", namespace]).await?);
    assert_eq!(
        narrow[0],
        ["NAME", "PHASE", "REASON", "EXIT", "TIME", "USER", "AGE"]
    );
    let run_ms = status.timings.unwrap_or_default().run_ms.to_string();
    assert_eq!(
        narrow[1][..6],
        [&name, "Failed", "NonZeroExit", "3", &run_ms, &execution.spec.user]
    );

    let wide = table(&kubectl(&["get", "codeexecutions", &name, "-n", namespace, "-o", "wide"]).await?);
    assert_eq!(wide[0][7..], ["POD", "NODE", "WARM"]);
    let warm = status.warm.unwrap_or_default().to_string();
    let (pod, node) = (
        status.pod_name.unwrap_or_default(),
        status.node_name.unwrap_or_default(),
    );
    assert_eq!(wide[1][7..], [pod, node, warm]);
    Ok(())
}

#[tokio::test]
async fn explain_documents_every_field() -> Result<()> {
    for path in [
        "cex.spec",
        "cex.status",
        "executorpools.spec",
        "executorpools.status",
    ] {
        let text = kubectl(&["explain", path]).await?;
        // kubectl prints this where a field has no description.
        assert!(!text.contains("<no description>"), "{path}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn wait_returns_when_the_execution_has_ended_in_whatever_way() -> Result<()> {
    let cluster = Cluster::connect().await?;
    for code in ["print(1)", "raise ValueError"] {
        let name = cluster.apply("waited-for", &Program::new(code)).await?.name_any();
        let what = format!("codeexecution/{name}");
        let arguments = [
            "wait",
            "--for=condition=Complete",
            &what,
            "-n",
            &cluster.executions_namespace,
            "--timeout=60s",
        ];
        assert!(kubectl(&arguments).await?.contains("condition met"));
        let status = cluster.executions().get(&name).await?.status.unwrap_or_default();
        assert!(status.phase.is_some_and(Phase::is_terminal));
    }
    Ok(())
}

#[tokio::test]
async fn phase_and_user_can_be_selected() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let user = unique("selected");
    let (good, _) = cluster
        .apply_and_wait("good", &Program::new("print(1)").user(&user))
        .await?;
    let (bad, _) = cluster
        .apply_and_wait("bad", &Program::new("raise ValueError").user(&user))
        .await?;
    let (other, _) = cluster.apply_and_wait("other", &Program::new("print(1)")).await?;
    let select = async |selector: &str| -> Result<BTreeSet<String>> {
        let namespace = &cluster.executions_namespace;
        let names = kubectl(&[
            "get",
            "cex",
            "-n",
            namespace,
            "-o",
            "name",
            "--field-selector",
            selector,
        ])
        .await?;
        Ok(names
            .lines()
            .filter_map(|line| line.split('/').nth(1))
            .map(str::to_owned)
            .collect())
    };
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let (good, bad, other) = (&good.name_any(), &bad.name_any(), &other.name_any());

    assert_eq!(select(&format!("spec.user={user}")).await?, set(&[good, bad]));
    assert_eq!(
        select(&format!("spec.user={user},status.phase=Succeeded")).await?,
        set(&[good])
    );
    let succeeded = select("status.phase=Succeeded").await?;
    assert!(succeeded.contains(good) && succeeded.contains(other) && !succeeded.contains(bad));
    Ok(())
}

/// Every path to a value, so that two documents can be compared by what they have.
fn paths(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| paths(value, &format!("{at}.{name}"), into)),
        Value::Array(items) => items
            .iter()
            .for_each(|item| paths(item, &format!("{at}[]"), into)),
        _ => {
            into.insert(at.to_owned());
        }
    }
}

#[tokio::test]
async fn an_execution_applied_by_hand_ends_as_over_http() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let programs = [
        Program::new("print('Hello, World!')"),
        Program::new("raise ValueError('Test error')"),
        Program::new("import time\nprint('x', flush=True)\ntime.sleep(10)").timeout(1),
        Program::new("print(open('f').read(), input(), end='')")
            .stdin("in")
            .file("f", b"file"),
    ];
    for program in programs {
        let answer = cluster.run(&program).await?;
        let over_http = cluster.executions().get(cluster::record_of(&answer)?).await?;
        let over_http = json!(over_http.status.context("a status")?);

        let name = unique("by-hand");
        let manifest = serde_json::to_string(&program.resource(&name))?;
        let arguments = [
            "apply",
            "--server-side",
            "-n",
            &cluster.executions_namespace,
            "-f",
            "-",
        ];
        let ran = run("kubectl", &arguments, &manifest).await?;
        assert!(ran.success, "{}", ran.stderr);
        let by_hand = json!(cluster.end_of(&name, cluster::PATIENCE).await?);

        let (mut of_http, mut of_hand) = (BTreeSet::new(), BTreeSet::new());
        paths(&over_http, "", &mut of_http);
        paths(&by_hand, "", &mut of_hand);
        assert_eq!(of_http, of_hand);
        for field in [
            "phase",
            "reason",
            "retryable",
            "exitCode",
            "signal",
            "output",
            "stderr",
            "error",
            "outputBytes",
            "truncated",
            "files",
            "codeSha256",
            "imageDigest",
            "isolation",
            "warm",
            "observedGeneration",
        ] {
            assert_eq!(over_http[field], by_hand[field], "{field}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_finished_record_goes_at_its_time_to_live() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let began = Instant::now();
    let (execution, _) = cluster
        .apply_and_wait("short-lived", &Program::new("print(1)").ttl(60))
        .await?;
    let name = execution.name_any();
    wait_until("the record is gone", Duration::from_secs(90), async || {
        Ok(cluster
            .executions()
            .get_metadata_opt(&name)
            .await?
            .is_none()
            .then_some(()))
    })
    .await?;
    assert!(
        began.elapsed() >= Duration::from_secs(60),
        "gone after {:?}",
        began.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_finished_record_is_labelled_and_says_when_it_goes() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (execution, status) = cluster
        .apply_and_wait("labelled", &Program::new("print(1)").ttl(3600))
        .await?;
    let name = execution.name_any();
    // Written after the status, off the path of whoever waits for the result.
    let metadata = wait_until("the record has its labels", cluster::PATIENCE, async || {
        let metadata = cluster.executions().get_metadata(&name).await?.metadata;
        let labelled = metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(codeexec_crds::LABEL_PHASE));
        Ok(labelled.then_some(metadata))
    })
    .await?;
    let labels = metadata.labels.unwrap_or_default();
    assert_eq!(labels[codeexec_crds::LABEL_PHASE], "Succeeded");
    assert!(labels.contains_key(codeexec_crds::LABEL_USER));
    let expires = metadata.annotations.unwrap_or_default()[codeexec_crds::ANNOTATION_EXPIRES_AT].clone();
    let expires: k8s_openapi::jiff::Timestamp = expires.parse()?;
    let completed = status.completion_time.context("a completion time")?.0;
    let kept = expires.duration_since(completed).as_secs();
    // Not before its time. Both times are whole seconds, and the second is written up to a second after the first.
    assert!((3600..=3604).contains(&kept), "kept for {kept} s");
    Ok(())
}
