//! The command-line tools that people use.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Ran {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a program with `stdin` and reads all it prints.
///
/// # Errors
/// When it can't be started; how it ends is in the answer.
pub async fn run(program: &str, arguments: &[&str], stdin: &str) -> Result<Ran> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("failed to start {program}"))?;
    let mut input = child.stdin.take().context("a piped stdin")?;
    let text = stdin.as_bytes().to_vec();
    // Beside reading the output: a program that prints before it has read everything would block us both.
    let feed = tokio::spawn(async move {
        let _ = input.write_all(&text).await;
    });
    let output = child.wait_with_output().await?;
    feed.abort();
    Ok(Ran {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The output of a kubectl command that must succeed.
///
/// # Errors
/// When it fails, with what it said.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    succeed("kubectl", arguments).await
}

/// The output of a helm command that must succeed.
///
/// # Errors
/// When it fails, with what it said.
pub async fn helm(arguments: &[&str]) -> Result<String> {
    succeed("helm", arguments).await
}

async fn succeed(program: &str, arguments: &[&str]) -> Result<String> {
    let ran = run(program, arguments, "").await?;
    if !ran.success {
        bail!("{program} {} failed: {}", arguments.join(" "), ran.stderr.trim());
    }
    Ok(ran.stdout)
}
