//! Pods that serve more than one execution.

use anyhow::{Result, ensure};
use codeexec_crds::{CodeExecutionStatus, LABEL_POOL, ReusePolicy, ReuseSpec};
use codeexec_e2e::cluster::PATIENCE;
use codeexec_e2e::{Cluster, Pool, PoolOf, wait_until};
use kube::ResourceExt;

use super::{connect, printed};

/// Leaves what it can, and says what it finds of others.
const CODE: &str = "
import os, subprocess
others = [p for p in os.listdir('/proc') if p.isdigit() and p not in ('1', str(os.getpid()))]
files = [os.path.join(f, n) for f in ('/code', '/tmp', '/dev/shm') for n in os.listdir(f) if n.startswith('left')]
print(others, files, 'LEFT' in os.environ)
for folder in ('/code', '/tmp', '/dev/shm'):
    os.makedirs(folder + '/left/deep', exist_ok=True)
    open(folder + '/left/deep/file', 'w').write('left')
    os.chmod(folder + '/left', 0)
subprocess.Popen(['sleep', '60'], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
os.environ['LEFT'] = '1'
";

fn same_user() -> ReuseSpec {
    ReuseSpec {
        policy: ReusePolicy::SameUser,
        ..ReuseSpec::default()
    }
}

async fn run(cluster: &Cluster, pool: &Pool, user: &str) -> Result<CodeExecutionStatus> {
    let (_, status) = cluster
        .apply_and_wait("reuse", &pool.program(CODE).user(user))
        .await?;
    printed(&status, "[] [] False\n")?;
    Ok(status)
}

/// Runs programs of a user until one gets the Pod that an earlier one had.
async fn is_served_again(cluster: &Cluster, pool: &Pool, user: &str, pod: &Option<String>) -> Result<()> {
    let what = format!("a program of {user} gets Pod {pod:?} again");
    wait_until(&what, PATIENCE, async || {
        let status = run(cluster, pool, user).await?;
        Ok((status.pod_name == *pod).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_used_pod_serves_its_own_user_and_nobody_else() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let pool = PoolOf::pods(2).with(|spec| spec.reuse = Some(same_user()));
    pool.run_full(&cluster, async |pool| {
        let first = run(&cluster, pool, "ada").await?;
        for _ in 0..3 {
            let other = run(&cluster, pool, "bob").await?;
            ensure!(other.pod_name != first.pod_name, "{other:?}");
        }
        is_served_again(&cluster, pool, "ada", &first.pod_name).await?;
        let other = run(&cluster, pool, "bob").await?;
        ensure!(other.pod_name != first.pod_name, "{other:?}");
        is_served_again(&cluster, pool, "ada", &first.pod_name).await
    })
    .await
}

#[tokio::test]
async fn a_used_pod_is_the_pool_s_and_goes_when_it_has_served_enough() -> Result<()> {
    let (cluster, _beside) = connect().await?;
    let pool = PoolOf::pods(1).with(|spec| {
        spec.reuse = Some(ReuseSpec {
            max_executions: Some(2),
            ..same_user()
        });
    });
    pool.run_full(&cluster, async |pool| {
        let first = run(&cluster, pool, "ada").await?;
        let name = first.pod_name.clone().unwrap_or_default();
        let pod = cluster.executors().get(&name).await?;
        let owner = pod.owner_references().first().map(|owner| owner.kind.clone());
        ensure!(owner.as_deref() == Some("ExecutorPool"), "{owner:?}");
        ensure!(pod.labels().contains_key(LABEL_POOL), "{:?}", pod.labels());
        is_served_again(&cluster, pool, "ada", &first.pod_name).await?;
        wait_until("a Pod that has served twice is gone", PATIENCE, async || {
            Ok(cluster.executors().get_opt(&name).await?.is_none().then_some(()))
        })
        .await?;
        let next = run(&cluster, pool, "ada").await?;
        ensure!(next.pod_name != first.pod_name, "{next:?}");
        Ok(())
    })
    .await
}
