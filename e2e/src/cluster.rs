//! The installation under test.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_crds::{CodeExecution, CodeExecutionStatus, ExecutorPool, ExecutorPoolSpec, LABEL_EXECUTION};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{Program, tools, unique, wait_until};

/// Longest that anything which is not broken takes, on a small machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer of the project's API.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Value of `Retry-After`.
    pub retry_after: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, or null where it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must be 200.
    ///
    /// # Errors
    /// When it is not.
    pub fn ok(self) -> Result<Value> {
        ensure!(self.status == 200, "HTTP {}: {}", self.status, self.body);
        Ok(self.body)
    }
}

/// The installation under test, as its users and its operators reach it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    http: reqwest::Client,
    url: String,
    /// The first API key, which the chart made.
    key: Option<String>,
    /// The chart's release; its objects are named after it.
    pub release: String,
    /// The namespace of operator and API server.
    pub namespace: String,
    /// The namespace of CodeExecutions, pools and executor Pods.
    pub executions_namespace: String,
}

impl Cluster {
    /// Connects to the cluster of `KUBECONFIG`.
    ///
    /// # Errors
    /// When there is none, or the chart is not installed on it.
    pub async fn connect() -> Result<Self> {
        let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let client = Client::try_default()
            .await
            .context("no cluster: e2e/run makes one and sets KUBECONFIG")?;
        let mut cluster = Self {
            client,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(150))
                .build()?,
            url: setting("E2E_URL", ""),
            key: env::var("E2E_API_KEY").ok(),
            release: setting("E2E_RELEASE", "codeexec"),
            namespace: setting("E2E_NAMESPACE", "codeexec"),
            executions_namespace: setting("E2E_EXECUTIONS_NAMESPACE", "codeexec-executions"),
        };
        if cluster.url.is_empty() {
            cluster.url = cluster.service_url().await?;
        }
        if cluster.key.is_none() {
            cluster.key = cluster.first_key().await?;
        }
        Ok(cluster)
    }

    /// The Service's own address: the harness makes the host a member of the cluster's network.
    async fn service_url(&self) -> Result<String> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let service = services.get(&format!("{}-api", self.release)).await?;
        let spec = service.spec.context("a Service without a spec")?;
        let address = spec.cluster_ip.context("a Service without an address")?;
        let port = spec
            .ports
            .iter()
            .flatten()
            .next()
            .context("a Service without ports")?
            .port;
        Ok(format!("http://{address}:{port}"))
    }

    /// The key that the chart made, unless somebody has read and deleted it.
    async fn first_key(&self) -> Result<Option<String>> {
        let secrets: Api<Secret> = self.beside_control();
        let secret = secrets
            .get_opt(&format!("{}-initial-api-key", self.release))
            .await?;
        let key = secret
            .and_then(|secret| secret.data)
            .and_then(|mut data| data.remove("key"));
        Ok(key.map(|key| String::from_utf8(key.0)).transpose()?)
    }

    /// Where the project's API answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The Kubernetes client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Objects of any kind beside the executions.
    #[must_use]
    pub fn beside_executions<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.executions_namespace)
    }

    /// Objects of any kind beside operator and API server.
    #[must_use]
    pub fn beside_control<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.namespace)
    }

    /// The CodeExecutions.
    #[must_use]
    pub fn executions(&self) -> Api<CodeExecution> {
        self.beside_executions()
    }

    /// The executor Pods.
    #[must_use]
    pub fn executors(&self) -> Api<Pod> {
        self.beside_executions()
    }

    /// Sends `bytes` to `POST /api/execute` as they are.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn post_bytes(&self, bytes: Vec<u8>, content_type: &str) -> Result<Answer> {
        let mut request = self
            .http
            .post(format!("{}/api/execute", self.url))
            .header("content-type", content_type)
            .body(bytes);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        read(request.send().await?).await
    }

    /// Sends a program with these headers and no credential of its own.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn post_with(&self, headers: &[(&str, &str)], program: &Program) -> Result<Answer> {
        let mut request = self
            .http
            .post(format!("{}/api/execute", self.url))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(program.body().to_string());
        read(request.send().await?).await
    }

    /// Sends a request to this URL, or to this path of the project's API, as JSON where it has a body, and with the
    /// first key where it has no credential of its own.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, self.absolute(url));
        let has_own = headers.iter().any(|(name, _)| *name == "authorization");
        if let Some(key) = self.key.as_ref().filter(|_| !has_own) {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request.send().await?).await
    }

    fn absolute(&self, url: &str) -> String {
        match url.starts_with('/') {
            true => format!("{}{url}", self.url),
            false => url.to_owned(),
        }
    }

    /// Sends `body` to `POST /api/execute`.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn post(&self, body: &Value) -> Result<Answer> {
        self.post_bytes(body.to_string().into_bytes(), "application/json")
            .await
    }

    /// The answer of a program that must have run, with whatever end.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub async fn run(&self, program: &Program) -> Result<Value> {
        self.post(&program.body()).await?.ok()
    }

    /// Begins a program without waiting for it; the name of its execution.
    ///
    /// # Errors
    /// When the answer is not what it should be.
    pub async fn begin(&self, program: &Program) -> Result<String> {
        let answer = self
            .send(Method::POST, "/api/executions", &[], Some(&program.body()))
            .await?;
        ensure!(answer.status == 202, "HTTP {}: {}", answer.status, answer.body);
        let id = record_of(&answer.body)?.to_owned();
        let location = answer.headers.get("location").context("no Location")?;
        ensure!(*location == format!("/api/executions/{id}"), "{location:?}");
        Ok(id)
    }

    /// Gets a path of the project's API.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], None).await
    }

    /// Opens this URL, or this path of the project's API, whose answer comes bit by bit.
    ///
    /// # Errors
    /// When no answer began.
    pub async fn open(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let mut request = self.http.get(self.absolute(url));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?)
    }

    /// Creates a CodeExecution by hand, under a name that begins with `prefix`.
    ///
    /// # Errors
    /// When Kubernetes refuses it.
    pub async fn apply(&self, prefix: &str, program: &Program) -> Result<CodeExecution> {
        let execution = program.resource(&unique(prefix));
        Ok(self
            .executions()
            .create(&PostParams::default(), &execution)
            .await?)
    }

    /// Waits until an execution has ended and returns what it ended with.
    ///
    /// # Errors
    /// When it has not ended within `bound`.
    pub async fn end_of(&self, name: &str, bound: Duration) -> Result<CodeExecutionStatus> {
        let executions = self.executions();
        wait_until(&format!("execution {name} has ended"), bound, async || {
            let status = executions.get(name).await?.status.unwrap_or_default();
            Ok(status
                .phase
                .is_some_and(codeexec_crds::Phase::is_terminal)
                .then_some(status))
        })
        .await
    }

    /// Applies a program by hand and waits for its end.
    ///
    /// # Errors
    /// When it is refused, or does not end.
    pub async fn apply_and_wait(
        &self,
        prefix: &str,
        program: &Program,
    ) -> Result<(CodeExecution, CodeExecutionStatus)> {
        let execution = self.apply(prefix, program).await?;
        let status = self.end_of(&execution.name_any(), PATIENCE).await?;
        Ok((execution, status))
    }

    /// The Pods that carry an execution's label, whatever state they are in.
    ///
    /// # Errors
    /// When the Kubernetes API does not answer.
    pub async fn pods_of(&self, execution: &CodeExecution) -> Result<Vec<Pod>> {
        let uid = execution.uid().context("an execution without a uid")?;
        let selector = ListParams::default().labels(&format!("{LABEL_EXECUTION}={uid}"));
        Ok(self.executors().list(&selector).await?.items)
    }

    /// Waits until the program of an execution has printed `text`, and returns its Pod.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub async fn pod_that_printed(&self, execution: &CodeExecution, text: &str) -> Result<Pod> {
        let what = format!("execution {} has printed {text:?}", execution.name_any());
        wait_until(&what, PATIENCE, async || {
            for pod in self.pods_of(execution).await? {
                // A container that was not started yet has no log; that is no error here.
                let log = self.executors().logs(&pod.name_any(), &Default::default()).await;
                if log.is_ok_and(|log| log.contains(text)) {
                    return Ok(Some(pod));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Sets `cancel` on an execution.
    ///
    /// # Errors
    /// When the patch is refused.
    pub async fn cancel(&self, name: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
        self.executions()
            .patch(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Makes a pool without idle Pods for one test. Left behind by a test that fails; it costs nothing.
    ///
    /// # Errors
    /// When Kubernetes refuses it.
    pub async fn make_pool(&self, prefix: &str, spec: ExecutorPoolSpec) -> Result<String> {
        let pools: Api<ExecutorPool> = self.beside_executions();
        let pool = ExecutorPool::new(&unique(prefix), ExecutorPoolSpec { replicas: 0, ..spec });
        Ok(pools.create(&PostParams::default(), &pool).await?.name_any())
    }

    /// Removes a pool of [`Self::make_pool`].
    ///
    /// # Errors
    /// When Kubernetes refuses it.
    pub async fn remove_pool(&self, name: &str) -> Result<()> {
        let pools: Api<ExecutorPool> = self.beside_executions();
        pools.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// An object as the Kubernetes API server encodes it, which is how etcd stores it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn encoded_execution(&self, name: &str) -> Result<String> {
        let path = format!(
            "/apis/codeexec.dev/v1alpha1/namespaces/{}/codeexecutions/{name}",
            self.executions_namespace
        );
        tools::kubectl(&["get", "--raw", &path]).await
    }
}

/// The name of the record that an answer is about.
///
/// # Errors
/// When it names none.
pub fn record_of(answer: &Value) -> Result<&str> {
    answer["id"]
        .as_str()
        .with_context(|| format!("an answer without an id: {answer}"))
}

/// Reads an answer to its end.
pub(crate) async fn read(response: Response) -> Result<Answer> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let retry_after = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let text = response.text().await?;
    Ok(Answer {
        status,
        retry_after,
        headers,
        body: serde_json::from_str(&text).unwrap_or_default(),
    })
}
