//! The cases of the plan, over HTTP, as its users send them.

use std::time::{Duration, Instant};

use anyhow::Result;
use codeexec_crds::Phase;
use codeexec_e2e::{Cluster, Witness, cluster};
use serde_json::json;

/// The plan's own bodies: code and language, nothing else.
fn body(code: &str) -> serde_json::Value {
    json!({"code": code, "language": "python"})
}

#[tokio::test]
async fn hello_world_is_answered_with_its_output() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let answer = cluster.post(&body("print(\"Hello, World!\")")).await?.ok()?;
    assert_eq!(answer["status"], "success", "{answer}");
    assert_eq!(answer["output"], "Hello, World!\n");
    assert_eq!(answer.get("error"), None);
    assert!(
        answer["executionTime"].as_u64().is_some_and(|ms| ms > 0),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn modules_of_the_standard_library_can_be_imported() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "import json\nprint(json.dumps({\"name\": \"test\", \"values\": [1, 2, 3]}))";
    let answer = cluster.post(&body(code)).await?.ok()?;
    assert_eq!(answer["status"], "success", "{answer}");
    assert_eq!(answer["output"], "{\"name\": \"test\", \"values\": [1, 2, 3]}\n");
    Ok(())
}

#[tokio::test]
async fn the_seven_packages_can_be_imported() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code =
        "import boto3, requests, numpy, pandas, matplotlib.pyplot, PIL, dotenv\nprint(numpy.arange(3).sum())";
    let answer = cluster.post(&body(code)).await?.ok()?;
    assert_eq!(
        (&answer["status"], &answer["output"]),
        (&json!("success"), &json!("3\n")),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn an_uncaught_exception_is_an_error_with_its_traceback() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let answer = cluster
        .post(&body("raise ValueError(\"Test error\")"))
        .await?
        .ok()?;
    assert_eq!(answer["status"], "error", "{answer}");
    assert_eq!(answer["exitCode"], 1);
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("Traceback (most recent call last):\n"),
        "{error}"
    );
    assert!(error.ends_with("ValueError: Test error"), "{error}");
    // The user's own line, and none of ours.
    assert!(error.contains("File \"main.py\", line 1"), "{error}");
    assert_eq!(error.matches("File ").count(), 1, "{error}");
    assert!(answer["executionTime"].is_u64());
    Ok(())
}

#[tokio::test]
async fn a_program_that_sleeps_35_seconds_times_out_at_30() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let began = Instant::now();
    let answer = cluster
        .post(&body("import time\ntime.sleep(35)\nprint('late')"))
        .await?
        .ok()?;
    let took = began.elapsed();
    assert_eq!(answer["status"], "timeout", "{answer}");
    assert_eq!(answer["error"], "Execution timeout (30s limit exceeded)");
    assert_eq!(answer["output"], "");
    assert!(took >= Duration::from_secs(30), "{took:?}");
    assert!(
        answer["timings"]["runMs"]
            .as_u64()
            .is_some_and(|ms| (30_000..32_000).contains(&ms)),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn a_shorter_timeout_is_named_and_keeps_the_output_so_far() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let mut request = body("import time\nprint('so far')\ntime.sleep(20)");
    request["timeout"] = json!(2);
    let answer = cluster.post(&request).await?.ok()?;
    assert_eq!(answer["status"], "timeout", "{answer}");
    assert_eq!(answer["error"], "Execution timeout (2s limit exceeded)");
    assert_eq!(answer["output"], "so far\n");
    Ok(())
}

#[tokio::test]
async fn a_thousand_lines_come_whole_and_in_order() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let code = "for i in range(1000):\n    print(f\"Line {i}\")";
    let answer = cluster.post(&body(code)).await?.ok()?;
    let expected: String = (0..1000).map(|i| format!("Line {i}\n")).collect();
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["output"], json!(expected));
    assert_eq!(
        answer["truncated"],
        json!({"stdout": false, "stderr": false, "files": false})
    );
    Ok(())
}

#[tokio::test]
async fn the_health_answer_is_the_plans() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let answer = cluster.get("/api/execute").await?;
    assert_eq!(answer.status, 200);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        answer.body,
        json!({"status": "ok", "service": "code-executor", "version": version})
    );
    Ok(())
}

#[tokio::test]
async fn a_request_becomes_a_code_execution_a_pod_of_it_and_its_status_the_answer() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let witness = Witness::start(&cluster).await?;
    let code = "import time\nprint('a', flush=True)\ntime.sleep(1)\nprint('b')";
    let answer = cluster.post(&body(code)).await?.ok()?;
    assert_eq!(
        (&answer["status"], &answer["output"]),
        (&json!("success"), &json!("a\nb\n")),
        "{answer}"
    );

    let execution = cluster.executions().get(cluster::record_of(&answer)?).await?;
    assert_eq!(execution.spec.code, code);
    let status = execution.status.clone().unwrap_or_default();
    assert_eq!(status.phase, Some(Phase::Succeeded));
    for (field, of_the_record) in [
        ("output", json!(status.output)),
        ("stderr", json!(status.stderr)),
        ("exitCode", json!(status.exit_code)),
        ("reason", json!(status.reason)),
        ("outputBytes", json!(status.output_bytes)),
        ("timings", json!(status.timings)),
        ("usage", json!(status.usage)),
        ("warm", json!(status.warm)),
    ] {
        assert_eq!(answer[field], of_the_record, "{field}");
    }
    witness.saw_it_start_once(&execution).await?;
    Ok(())
}
