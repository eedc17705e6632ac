//! The places that answer over HTTP: a server in local mode, and an installed chart.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use codeexec_suite::{Observed, Program, Target};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::harness::{Place, Ran, bound, in_time};
use super::processes::{adopt_orphans, left_over};
use crate::bench::LocalServer;
use crate::processes::processes_of_pods;
use crate::{Answer, Cluster, wait_until};

/// How long a Pod may take to start on a small machine.
const POD_START: Duration = Duration::from_secs(15);

/// How long the Pod of a finished execution may stay.
const POD_END: Duration = Duration::from_secs(15);

/// The API server in local mode.
#[derive(Debug)]
pub struct LocalMode {
    server: LocalServer,
}

impl LocalMode {
    /// Starts this server with this runner and this interpreter.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn start(api: &Path, runner: &Path, python: &Path) -> Result<Self> {
        adopt_orphans()?;
        Ok(Self {
            // What holds the programs is the isolation, so nothing else may.
            server: LocalServer::start_with(api, runner, python, "off").await?,
        })
    }
}

fn ran(answer: &Answer, took: Duration, complaints: impl IntoIterator<Item = String>) -> Ran {
    Ran {
        observed: Observed::of_answer(answer.status, &answer.body),
        took,
        complaints: complaints.into_iter().collect(),
        id: answer.body["id"].as_str().map(str::to_owned),
    }
}

impl Place for LocalMode {
    const TARGET: Target = Target::Local;

    // What is left running could be of either of two.
    const AT_ONCE: usize = 1;

    async fn run(&self, program: &Program) -> Result<Ran> {
        let began = Instant::now();
        let answer = self.server.post(&program.body()).await?;
        let took = began.elapsed();
        Ok(ran(
            &answer,
            took,
            in_time("the answer came", took, bound(program)),
        ))
    }

    async fn left_over(&self, _: &Ran) -> Vec<String> {
        let server: Vec<i32> = self.server.pid().into_iter().collect();
        left_over(&server).await
    }
}

/// An installed chart.
pub struct OnCluster {
    cluster: Cluster,
}

impl OnCluster {
    /// The one that `KUBECONFIG` leads to.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect() -> Result<Self> {
        Ok(Self {
            cluster: Cluster::connect().await?,
        })
    }

    /// Waits until the Pod of an execution is gone from the Kubernetes API.
    async fn pod_is_gone(&self, id: &str) -> Result<()> {
        let execution = self.cluster.executions().get(id).await?;
        let Some(pod) = execution.status.and_then(|status| status.pod_name) else {
            return Ok(());
        };
        let pods = self.cluster.executors();
        wait_until(&format!("Pod {pod} is gone"), POD_END, async || {
            Ok(pods.get_metadata_opt(&pod).await?.is_none().then_some(()))
        })
        .await
    }

    /// Waits until each process of a Pod on this machine is that of a Pod in the Kubernetes API. Where the
    /// cluster is elsewhere, there are no such processes.
    async fn no_process_without_its_pod(&self) -> Result<()> {
        let pods: Api<Pod> = Api::all(self.cluster.client());
        let mut stray = Vec::new();
        let gone = wait_until("no process outlives its Pod", POD_END, async || {
            // Before the Pods: one that is made meanwhile is in the list, whatever runs in it.
            let running = processes_of_pods();
            let known = pods.list_metadata(&ListParams::default()).await?;
            let known: HashSet<String> = known.iter().filter_map(ResourceExt::uid).collect();
            stray = running
                .into_iter()
                .filter(|process| !known.contains(&process.pod))
                .collect();
            Ok(stray.is_empty().then_some(()))
        })
        .await;
        gone.map_err(|error| error.context(format!("processes of Pods that are gone: {stray:?}")))
    }
}

impl Place for OnCluster {
    const TARGET: Target = Target::Cluster;

    const AT_ONCE: usize = 3;

    // Each has a Pod of its own, whose start takes longer than most programs, and half of the programs
    // have to succeed anyway.
    const CANARY_EVERY: usize = 10;

    async fn run(&self, program: &Program) -> Result<Ran> {
        let began = Instant::now();
        let answer = self.cluster.post(&program.body()).await?;
        let took = began.elapsed();
        let run_ms = answer.body["timings"]["runMs"]
            .as_u64()
            .map(Duration::from_millis);
        let own = run_ms.and_then(|ran| in_time("the program ended", ran, bound(program)));
        let whole = in_time("the answer came", took, bound(program) + POD_START);
        let unnamed = (answer.status == 200 && !answer.body["id"].is_string())
            .then(|| "the answer names no execution".to_owned());
        Ok(ran(&answer, took, [own, whole, unnamed].into_iter().flatten()))
    }

    async fn left_over(&self, ran: &Ran) -> Vec<String> {
        let Some(id) = &ran.id else { return Vec::new() };
        let gone = self.pod_is_gone(id).await;
        gone.err().map(|error| format!("{error:#}")).into_iter().collect()
    }

    async fn left_at_the_end(&self) -> Vec<String> {
        let gone = self.no_process_without_its_pod().await;
        gone.err().map(|error| format!("{error:#}")).into_iter().collect()
    }
}
