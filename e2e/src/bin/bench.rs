//! `make bench`: prints the table and writes `target/bench/report.json`.
//!
//! `BENCH_SAMPLES` is the number of samples of each kind (60), `BENCH_FINISHED` the number of finished
//! executions beside which memory and CPU are measured (1000; 0 leaves that out).

// Its table is what it is for.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use codeexec_e2e::Cluster;
use codeexec_e2e::bench::{Report, take_samples, with_finished_executions};

#[tokio::main]
async fn main() -> Result<()> {
    let samples = setting("BENCH_SAMPLES", 60)?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target")
        .canonicalize()?;
    let cluster = Cluster::connect().await?;
    let mut report = Report::default();

    println!("{samples} samples of each kind, in turn");
    take_samples(&cluster, &target, samples, &mut report).await?;
    let finished = setting("BENCH_FINISHED", 1000)?;
    if finished > 0 {
        println!("memory and CPU beside {finished} finished executions");
        report.idle = with_finished_executions(&cluster, finished).await?;
        if report.idle.is_empty() {
            println!("SKIPPED: the processes are not on this machine, so nobody can measure them");
        }
    }

    print!("\n{}", report.table());
    let file = target.join("bench/report.json");
    fs::create_dir_all(file.parent().context("a folder")?)?;
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{}", file.display());
    Ok(())
}

fn setting(name: &str, default: usize) -> Result<usize> {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name} must be a number, not {text}")),
        Err(_) => Ok(default),
    }
}
