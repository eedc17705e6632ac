//! The policy on an installed chart. The other tests run with it off: this one switches it on, and off again.

use std::time::Duration;

use anyhow::{Result, ensure};
use codeexec_crds::{Phase, Reason};
use codeexec_e2e::operator::{is_at_full_strength, leads_again};
use codeexec_e2e::tools::kubectl;
use codeexec_e2e::{Cluster, Program};
use serde_json::json;

/// How long a new process may take until it leads: the old one gives its Lease back as it ends.
const TAKEOVER: Duration = Duration::from_secs(30);

async fn set_policy(cluster: &Cluster, policy: &str) -> Result<()> {
    for component in ["operator", "api"] {
        let deployment = format!("deployment/{}-{component}", cluster.release);
        let variable = format!("CODEEXEC_POLICY={policy}");
        kubectl(&["-n", &cluster.namespace, "set", "env", &deployment, &variable]).await?;
        is_at_full_strength(cluster, component).await?;
    }
    leads_again(cluster, TAKEOVER).await
}

async fn is_refused_everywhere(cluster: &Cluster) -> Result<()> {
    let program = Program::new("import json\nimport os\nprint(os.getpid())");
    let sentence = "the policy does not allow `import os` (line 2, column 1)";

    let answer = cluster.post(&program.body()).await?;
    let expected = json!({"error": sentence, "code": "policy_violation"});
    ensure!(answer.status == 400 && answer.body == expected, "{answer:?}");

    let (_, status) = cluster.apply_and_wait("policy", &program).await?;
    ensure!(
        (status.phase, status.reason) == (Some(Phase::Failed), Some(Reason::Rejected)),
        "{status:?}"
    );
    ensure!(status.error.as_deref() == Some(sentence), "{status:?}");
    ensure!(
        (status.retryable, &status.pod_name) == (Some(false), &None),
        "{status:?}"
    );

    let words = Program::new("print('import os, eval(1)')");
    ensure!(cluster.run(&words).await?["output"] == "import os, eval(1)\n");
    let (_, status) = cluster.apply_and_wait("policy", &words).await?;
    ensure!(status.phase == Some(Phase::Succeeded), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_policy_names_is_refused_over_http_and_rejected_where_it_was_applied_by_hand() -> Result<()>
{
    let cluster = Cluster::connect().await?;
    set_policy(&cluster, "deny").await?;
    let refused = is_refused_everywhere(&cluster).await;
    set_policy(&cluster, "off").await?;
    refused
}
