//! What tests have in common that hurt the operator: the whole installation before, and what must hold after.

use std::time::Duration;

use anyhow::{Result, ensure};
use codeexec_crds::{CodeExecution, CodeExecutionStatus, Phase};
use codeexec_e2e::{Cluster, Program, Witness, audit, operator, wait_until};
use codeexec_operator::failpoints;
use kube::ResourceExt;
use tokio::sync::{Mutex, MutexGuard};

/// What an execution may take beyond its own timeout, whatever happens to the operator.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(15);

/// A new leader must have taken over within this.
pub const FAILOVER: Duration = Duration::from_secs(10);

/// One test at a time, also where somebody runs them without `--test-threads 1`.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The installation at its full strength, whatever the test before did to it.
pub async fn whole_cluster() -> Result<(Cluster, MutexGuard<'static, ()>)> {
    let alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    operator::heal(&cluster).await?;
    operator::is_at_full_strength(&cluster, "api").await?;
    Ok((cluster, alone))
}

/// Prints `first` once, works for a while, so that it is seen as Running, and says that it is done.
pub fn program(first: &str) -> Program {
    Program::that_takes(1.0, first).timeout(10)
}

/// Within what time an execution must have ended.
pub fn within(execution: &CodeExecution) -> Duration {
    Duration::from_secs(execution.spec.timeout_seconds.unsigned_abs().into()) + BEYOND_TIMEOUT
}

/// The execution succeeded, and its one side effect happened once.
pub fn ran_whole_and_once(status: &CodeExecutionStatus, first: &str) -> Result<()> {
    ensure!(status.phase == Some(Phase::Succeeded), "{status:?}");
    ensure!(status.output == Some(format!("{first}\ndone\n")), "{status:?}");
    Ok(())
}

/// Runs `program` with the leading operator dying at `failpoint`, and checks that nobody could tell.
pub async fn survives(
    cluster: &Cluster,
    witness: &Witness,
    failpoint: &str,
    program: Program,
    first: &str,
) -> Result<CodeExecutionStatus> {
    let victim = operator::leader(cluster).await?;
    let program = program.annotation(failpoints::ANNOTATION, format!("{failpoint}@{victim}"));
    let execution = cluster.apply("killed", &program).await?;
    let status = cluster.end_of(&execution.name_any(), within(&execution)).await?;
    ran_whole_and_once(&status, first)?;
    // Otherwise the failpoint was never reached, and all this proved nothing.
    operator::leader_other_than(cluster, &victim, Duration::from_secs(20)).await?;

    wait_until(
        "the Pod is gone and the record labelled",
        Duration::from_secs(20),
        async || {
            let record = cluster.executions().get_metadata(&execution.name_any()).await?;
            let labelled = record.labels().contains_key(codeexec_crds::LABEL_PHASE);
            Ok((labelled && cluster.pods_of(&execution).await?.is_empty()).then_some(()))
        },
    )
    .await?;
    witness.saw_it_start_once(&execution).await?;
    is_in_the_audit_trail(cluster, &execution).await?;
    operator::heal(cluster).await?;
    Ok(status)
}

/// At least one line says how it ended, whoever wrote it, and none says anything else.
async fn is_in_the_audit_trail(cluster: &Cluster, execution: &CodeExecution) -> Result<()> {
    let uid = execution.uid().unwrap_or_default();
    let lines = audit::lines_of_execution(cluster, &uid).await?;
    ensure!(
        !lines.is_empty(),
        "{} is not in the audit trail",
        execution.name_any()
    );
    ensure!(lines.iter().all(|line| line["phase"] == "Succeeded"), "{lines:?}");
    Ok(())
}

/// Whether the operator under test was built with failpoints.
pub fn has_failpoints() -> bool {
    let has = std::env::var("E2E_FAILPOINTS").is_ok_and(|value| value == "1");
    if !has {
        eprintln!("SKIPPED: this operator has no failpoints (E2E_FAILPOINTS=1 says that it has)");
    }
    has
}
