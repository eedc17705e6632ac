//! The shortest times that a Pod and an interpreter could take.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codeexec_crds::{EXECUTOR_CONTAINER, LABEL_EXECUTION, LABEL_MANAGED_BY};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{EnvVar, Node, Pod, PodSpec};
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, SimplexStream, WriteHalf};
use tokio::process::Command;

use super::BenchNamespace;
use crate::cluster::PATIENCE;
use crate::{Cluster, Program, unique, wait_until};

/// Between two tries to attach to a Pod that is starting.
const RETRY: Duration = Duration::from_millis(15);

/// The same where several are: each try costs the cluster about a millisecond, which it then lacks for the Pods.
const RETRY_BESIDE_OTHERS: Duration = Duration::from_millis(50);

/// What the programs here run.
const PRINT: &str = "print(1)";

/// Prints 1 only in a user namespace other than the node's.
const PRINT_IF_OWN_USERS: &str =
    "print(int(open('/proc/self/uid_map').read().split() != ['0', '0', '4294967295']))";

/// Reads a line of code and runs it: an attached stream replays nothing, so that output must wait for its reader.
const ONE_LINE: &str = "exec(input())";

/// The same, again and again.
const MANY_LINES: &str = "while True: exec(input(), {})";

/// Pods with the image, limits and security context of executor Pods, but plain Python inside.
#[derive(Clone)]
pub struct PodFloor {
    pods: Api<Pod>,
    attachable: Api<Pod>,
    executors: Api<Pod>,
    client: Client,
    spec: PodSpec,
    /// Code that comes before any other.
    imports: String,
    retry: Duration,
}

impl PodFloor {
    /// Takes the spec from a Pod that the operator made, for Pods in the benchmark's own namespace.
    ///
    /// # Errors
    /// When it makes none.
    pub async fn like_the_operators(cluster: &Cluster, namespace: &BenchNamespace) -> Result<Self> {
        let execution = cluster.apply("floor", &Program::that_takes(2.0, "runs")).await?;
        let pod = cluster.pod_that_printed(&execution, "runs").await?;
        let mut spec = pod.spec.context("a Pod without a spec")?;
        spec.node_name = None;
        // One that stays attached lives through all samples.
        spec.active_deadline_seconds = Some(2 * 3600);
        cluster.end_of(&execution.name_any(), PATIENCE).await?;
        namespace.admit(cluster, &spec).await?;
        Ok(Self {
            pods: namespace.pods(),
            attachable: namespace.attachable_pods(),
            executors: cluster.executors(),
            client: cluster.client(),
            spec,
            imports: String::new(),
            retry: RETRY,
        })
    }

    /// The same, in a user namespace of its own or in the node's, wherever the operator's are.
    #[must_use]
    pub fn with_own_users(&self, own: bool) -> Self {
        let mut floor = self.clone();
        floor.spec.host_users = own.then_some(false);
        floor
    }

    /// The same without its RuntimeClass; nothing where it has none anyway.
    #[must_use]
    pub fn without_runtime_class(&self) -> Option<Self> {
        let mut floor = self.clone();
        floor.spec.runtime_class_name.take()?;
        // The class brought it, and without one it is refused.
        floor.spec.overhead = None;
        Some(floor)
    }

    /// The same for several at once.
    #[must_use]
    pub fn beside_others(&self) -> Self {
        Self {
            retry: RETRY_BESIDE_OTHERS,
            ..self.clone()
        }
    }

    /// The same, importing these modules before it prints anything.
    #[must_use]
    pub fn with_imports(&self, modules: &[&str]) -> Self {
        let mut floor = self.clone();
        floor.imports = format!("import {}\n", modules.join(", "));
        for container in &mut floor.spec.containers {
            // matplotlib wants a folder that it can write to, and the image's own is one that the runner makes.
            container.env.get_or_insert_default().push(EnvVar {
                name: "MPLCONFIGDIR".to_owned(),
                value: Some("/dev/shm/.matplotlib".to_owned()),
                value_from: None,
            });
        }
        floor
    }

    async fn create(&self, code: &str) -> Result<String> {
        let mut spec = self.spec.clone();
        let container = spec.containers.first_mut().context("a Pod without a container")?;
        let code = format!("{}{code}", self.imports);
        container.command = Some(["python3", "-u", "-c", &code].map(str::to_owned).to_vec());
        // Those of the runner.
        container.args = None;
        // No label of ours: the operator must not take it for one of its own.
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(unique("floor")),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        };
        Ok(self.pods.create(&PostParams::default(), &pod).await?.name_any())
    }

    async fn attach(&self, name: &str) -> Result<Stream> {
        let params = AttachParams::default()
            .container(EXECUTOR_CONTAINER)
            .stdin(true)
            .stdout(true)
            .stderr(false);
        let began = Instant::now();
        loop {
            match self.attachable.attach(name, &params).await {
                Ok(process) => return Stream::of(process),
                Err(error) if began.elapsed() > PATIENCE => {
                    return Err(error).context("failed to attach to its Pod");
                }
                Err(_) => tokio::time::sleep(self.retry).await,
            }
        }
    }

    /// Attaches to a Pod that is starting, writes a line of code and reads what it prints.
    async fn first_exchange(&self, name: &str, line: &str) -> Result<Stream> {
        let began = Instant::now();
        loop {
            let mut stream = self.attach(name).await?;
            match stream.exchange(line).await {
                // One that was opened while the container began sometimes ends at once, with nothing said on it.
                Err(error) if is_early_end(&error) && began.elapsed() < PATIENCE => {}
                exchanged => return exchanged.map(|()| stream),
            }
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.pods
            .delete(name, &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    /// From the creation of a Pod to the output of its program.
    ///
    /// # Errors
    /// When it prints something else, or nothing.
    pub async fn sample(&self) -> Result<Duration> {
        let began = Instant::now();
        let name = self.create(ONE_LINE).await?;
        self.first_exchange(&name, PRINT).await?;
        let took = began.elapsed();
        self.remove(&name).await?;
        Ok(took)
    }

    /// Starts one Pod with users of its own, and sees whether it has them: a cluster may ignore the wish.
    ///
    /// # Errors
    /// When it does not start within a minute, or has not.
    pub async fn try_own_users(&self) -> Result<()> {
        let name = self.create(ONE_LINE).await?;
        let tried = self.first_exchange(&name, PRINT_IF_OWN_USERS).await;
        self.remove(&name).await?;
        tried.map(drop)
    }

    /// Waits until no Pod but this is left of earlier samples, neither as an object nor on a node, so that the end of
    /// one does not slow the next.
    ///
    /// # Errors
    /// When one stays.
    pub async fn settle(&self, keep: Option<&AttachedFloor>) -> Result<()> {
        let keep = keep.map(|floor| floor.name.as_str());
        wait_until("the Pods of earlier samples are gone", PATIENCE, async || {
            let ours = self.pods.list_metadata(&ListParams::default()).await?;
            if ours.iter().any(|pod| Some(pod.name_any().as_str()) != keep) {
                return Ok(None);
            }
            // Idle ones of a pool stay.
            let executors = self.executors.list_metadata(&ListParams::default()).await?;
            let gone = executors.iter().all(|pod| {
                let labels = pod.labels();
                labels.contains_key(LABEL_MANAGED_BY) && !labels.contains_key(LABEL_EXECUTION)
            });
            let known: Vec<String> = ours.iter().chain(&executors).map(ResourceExt::name_any).collect();
            Ok((gone && self.nodes_run_nothing_but(&known).await?).then_some(()))
        })
        .await
    }

    /// Whether the nodes have taken down every Pod of the benchmark and of the operator whose object is gone. A Pod
    /// that is deleted without grace is gone at once, and only its node knows that it still has to end it.
    async fn nodes_run_nothing_but(&self, known: &[String]) -> Result<bool> {
        let namespaces = [self.pods.namespace(), self.executors.namespace()];
        let nodes: Api<Node> = Api::all(self.client.clone());
        for node in nodes.list_metadata(&ListParams::default()).await? {
            let path = format!("/api/v1/nodes/{}/proxy/runningpods/", node.name_any());
            let request = http::Request::get(path).body(vec![])?;
            let Ok(running) = self.client.request::<List<Pod>>(request).await else {
                // A kubelet that tells nobody; then the objects have to do.
                continue;
            };
            let is_left = |pod: &Pod| {
                namespaces.contains(&pod.metadata.namespace.as_deref()) && !known.contains(&pod.name_any())
            };
            if running.items.iter().any(is_left) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_early_end(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// A Pod that is attached already and runs one line after the other.
pub struct AttachedFloor {
    floor: PodFloor,
    name: String,
    stream: Stream,
}

impl AttachedFloor {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(floor: &PodFloor) -> Result<Self> {
        let name = floor.create(MANY_LINES).await?;
        let stream = floor.first_exchange(&name, PRINT).await?;
        Ok(Self {
            floor: floor.clone(),
            name,
            stream,
        })
    }

    /// From writing the code to its output.
    ///
    /// # Errors
    /// When it prints something else, or nothing.
    pub async fn sample(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.stream.exchange(PRINT).await?;
        Ok(began.elapsed())
    }

    /// Removes its Pod.
    ///
    /// # Errors
    /// When Kubernetes refuses.
    pub async fn stop(self) -> Result<()> {
        self.floor.remove(&self.name).await
    }
}

/// Both directions of an attached container. The process ends them when it is dropped.
struct Stream {
    _process: AttachedProcess,
    input: WriteHalf<SimplexStream>,
    output: ReadHalf<SimplexStream>,
}

impl Stream {
    fn of(mut process: AttachedProcess) -> Result<Self> {
        let input = process.stdin().context("a stdin")?;
        let output = process.stdout().context("a stdout")?;
        Ok(Self {
            _process: process,
            input,
            output,
        })
    }

    /// Writes a line of code and reads the 1 that it prints.
    async fn exchange(&mut self, line: &str) -> Result<()> {
        self.input.write_all(line.as_bytes()).await?;
        self.input.write_all(b"\n").await?;
        self.input.flush().await?;
        let mut line = [0; 2];
        let read = self.output.read_exact(&mut line);
        tokio::time::timeout(PATIENCE, read)
            .await
            .context("no output")??;
        ensure!(&line == b"1\n", "it printed {line:?}");
        Ok(())
    }
}

/// From spawning the interpreter of local mode to its end.
///
/// # Errors
/// When it can't be started.
pub async fn python_floor(python: &Path) -> Result<Duration> {
    let began = Instant::now();
    let child = Command::new(python)
        .args(["-I", "-c", "print(1)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}: `make run` makes it", python.display()))?;
    let output = child.wait_with_output().await?;
    let took = began.elapsed();
    ensure!(
        output.stdout == b"1\n",
        "{} printed {:?}",
        python.display(),
        output.stdout
    );
    Ok(took)
}
