//! What results may cost etcd: with bounds so small that a few outputs are beyond them.
//!
//! The chart's values change in between, so nothing else runs beside these tests.

use anyhow::Result;
use codeexec_crds::{CodeExecutionStatus, Phase};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::{Cluster, Program, operator, wait_until};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use tokio::sync::Mutex;

/// One test at a time, also where somebody runs them without `--test-threads 1`.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The plan's bound on output.
const OUTPUT_CAP: usize = 1024 * 1024;

/// What encodes worst: each takes six bytes where it is stored, whatever it takes in UTF-8.
const WORST: [&str; 5] = ["<", "&", "\\u2028", "\\x01", "\\x00"];

const DEFAULTS: [&str; 3] = [
    "executions.writeBudgetBytes=536870912",
    "executions.writeBudgetMinutes=10",
    "executions.maxOutputBytes=268435456",
];

/// Eight MiB, long enough that nothing of it is given back during a test.
const SMALL_BUDGET: [&str; 2] = [
    "executions.writeBudgetBytes=8388608",
    "executions.writeBudgetMinutes=120",
];

async fn set(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    operator::set_values(cluster, &values).await
}

/// Removes what other tests left: a new leader counts it as written, and as kept.
async fn without_records(cluster: &Cluster) -> Result<()> {
    let (executions, all) = (cluster.executions(), ListParams::default());
    executions
        .delete_collection(&DeleteParams::default(), &all)
        .await?;
    wait_until("there is no record", PATIENCE, async || {
        let left = executions.list_metadata(&all.clone().limit(1)).await?.items;
        Ok(left.is_empty().then_some(()))
    })
    .await
}

/// A MB of a character, by its name in Python.
fn a_megabyte_of(character: &str) -> Program {
    Program::new(format!("print('{character}' * {OUTPUT_CAP}, end='')"))
}

fn output(status: &CodeExecutionStatus) -> &str {
    status.output.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn more_than_the_budget_is_cut_to_both_ends_and_says_so() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    without_records(&cluster).await?;
    set(&cluster, &SMALL_BUDGET).await?;
    let mut shortened = 0;
    for character in WORST.into_iter().chain(["x"; 3]) {
        let (execution, status) = cluster
            .apply_and_wait("budget", &a_megabyte_of(character))
            .await?;
        assert_eq!(
            status.phase,
            Some(Phase::Succeeded),
            "{character}: {:?}",
            status.error
        );
        // The program's own numbers stay, whatever was kept.
        let printed = status.output_bytes.unwrap_or_default().stdout;
        assert!(
            printed >= i64::try_from(OUTPUT_CAP)?,
            "{character}: {printed} bytes"
        );
        let stored = cluster.encoded_execution(&execution.name_any()).await?;
        if output(&status).contains("bytes were not kept") {
            shortened += 1;
            assert!(
                status.truncated.is_some_and(|truncated| truncated.stdout),
                "{character}"
            );
            assert!(stored.len() < 150_000, "{character}: {} bytes", stored.len());
        } else {
            assert_eq!(shortened, 0, "{character} came whole after another was cut");
            assert!(stored.len() < 1_500_000, "{character}: {} bytes", stored.len());
        }
    }
    // Each of the first two takes 2.7 MB, and a quarter of the budget is left for ends.
    assert_eq!(shortened, 6);
    let metrics = operator::metrics(&cluster).await?;
    let line = format!("codeexec_outputs_cut_total{{kept=\"ends\",why=\"writes\"}} {shortened}");
    assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    set(&cluster, &DEFAULTS).await
}

#[tokio::test]
async fn beyond_the_budget_small_files_stay_and_large_ones_go() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    without_records(&cluster).await?;
    set(&cluster, &SMALL_BUDGET).await?;
    let program = Program::new(
        "import shutil\nfor name, size in (('large', 600_000), ('small', 20_000)):\n\
         \x20   with open(f'out/{name}', 'w') as file: file.write('x' * size)\n\
         \x20   shutil.os.utime(f'out/{name}', (1, 1))",
    );
    // 800 KB of base64 are written twice, and a quarter of the budget is left for the ends.
    let mut shortened = 0;
    for _ in 0..6 {
        let (execution, status) = cluster.apply_and_wait("budget-files", &program).await?;
        assert_eq!(status.phase, Some(Phase::Succeeded), "{:?}", status.error);
        let files = status.files.unwrap_or_default();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        let flagged = status.truncated.unwrap_or_default();
        assert!(!flagged.stdout && !flagged.stderr);
        let stored = cluster.encoded_execution(&execution.name_any()).await?;
        if flagged.files {
            shortened += 1;
            assert_eq!(paths, ["small"]);
            assert!(stored.len() < 50_000, "{} bytes", stored.len());
        } else {
            assert_eq!(shortened, 0, "files came whole after others were dropped");
            assert_eq!(paths, ["large", "small"]);
        }
    }
    assert!((1..6).contains(&shortened), "{shortened} of 6 were shortened");
    set(&cluster, &DEFAULTS).await
}

#[tokio::test]
async fn a_new_leader_cuts_the_oldest_outputs_that_it_never_saw_and_leaves_their_records() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    without_records(&cluster).await?;
    let mut names = Vec::new();
    // Of two that were created in the same second the first by name counts as older.
    for (character, prefix) in [("<", "retained-1"), ("x", "retained-2"), ("y", "retained-3")] {
        let (execution, status) = cluster.apply_and_wait(prefix, &a_megabyte_of(character)).await?;
        assert!(output(&status).len() > 140_000, "{character}");
        names.push(execution.name_any());
    }
    // Room for one of them.
    set(&cluster, &["executions.maxOutputBytes=1500000"]).await?;
    let executions = cluster.executions();
    for name in &names[..2] {
        let status = wait_until("the output of an old record is cut", PATIENCE, async || {
            let status = executions.get(name).await?.status.unwrap_or_default();
            Ok((output(&status).len() <= 1024).then_some(status))
        })
        .await?;
        assert!(!output(&status).is_empty(), "the head stays");
        assert!(status.truncated.is_some_and(|truncated| truncated.stdout));
        assert_eq!(
            status.output_bytes.unwrap_or_default().stdout,
            i64::try_from(OUTPUT_CAP)?
        );
        assert_eq!(status.phase, Some(Phase::Succeeded));
    }
    let newest = executions.get(&names[2]).await?.status.unwrap_or_default();
    assert_eq!(output(&newest).len(), OUTPUT_CAP, "the newest stays whole");
    wait_until("the metrics tell it", PATIENCE, async || {
        let metrics = operator::metrics(&cluster).await?;
        let retained = metrics
            .lines()
            .find_map(|line| line.strip_prefix("codeexec_retained_outputs_bytes "))
            .and_then(|value| value.parse::<u64>().ok());
        Ok(retained.filter(|bytes| *bytes <= 1_500_000))
    })
    .await?;
    set(&cluster, &DEFAULTS).await
}
