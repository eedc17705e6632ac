//! A server in local mode, as `make run` starts it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{Answer, cluster, wait_until};

/// Ends with its owner.
#[derive(Debug)]
pub struct LocalServer {
    process: Child,
    http: reqwest::Client,
    url: String,
}

impl LocalServer {
    /// Starts the release build in `target/release` with this interpreter.
    ///
    /// # Errors
    /// When it does not answer within 20 s.
    pub async fn start(target: &Path, python: &Path) -> Result<Self> {
        let release = target.join("release");
        Self::start_with(
            &release.join("codeexec-api"),
            &release.join("codeexec-runner"),
            python,
            "deny",
        )
        .await
    }

    /// Starts this server with this runner, this interpreter and this policy.
    ///
    /// # Errors
    /// When it does not answer within 20 s.
    pub async fn start_with(program: &Path, runner: &Path, python: &Path, policy: &str) -> Result<Self> {
        // Another process could take the port in between; then the server says so and ends.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let process = Command::new(program)
            .args([
                "--backend",
                "local",
                "--policy",
                policy,
                "--log-level",
                "warn",
                "--rate-limit",
                "0",
                "--listen",
                &address,
                "--python",
            ])
            .arg(python)
            .arg("--runner")
            .arg(runner)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let mut server = Self {
            process,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(40))
                .build()?,
            url: format!("http://{address}/api/execute"),
        };
        server.is_up().await?;
        Ok(server)
    }

    async fn is_up(&mut self) -> Result<()> {
        let Self { process, http, url } = self;
        wait_until("the local server answers", Duration::from_secs(20), async || {
            if let Some(status) = process.try_wait()? {
                bail!("it ended at once: {status}");
            }
            Ok(http.get(&*url).send().await.ok())
        })
        .await?;
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Sends `body` to `POST /api/execute`.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn post(&self, body: &Value) -> Result<Answer> {
        cluster::read(self.http.post(&self.url).json(body).send().await?).await
    }

    /// From the request to its answer.
    ///
    /// # Errors
    /// When the program does not succeed.
    pub async fn sample(&self) -> Result<Duration> {
        let body = json!({"code": "print(1)", "language": "python"});
        let began = Instant::now();
        let answer = self.post(&body).await?.ok()?;
        let took = began.elapsed();
        ensure!(answer["output"] == "1\n", "{answer}");
        Ok(took)
    }
}
