//! `make bench`: prints the table and writes `target/bench/report.json`.
//!
//! `BENCH_SAMPLES` is the number of samples of each kind (60), `BENCH_FINISHED` the number of finished
//! executions beside which memory and CPU are measured (1000; 0 leaves that out). `BENCH_ONLY=isolation` needs
//! no cluster: it measures the runner's own layers, and writes `target/bench/isolation.json` instead.

// Its table is what it is for.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use codeexec_e2e::Cluster;
use codeexec_e2e::bench::{Report, take_samples, with_finished_executions};

#[tokio::main]
async fn main() -> Result<()> {
    let samples = setting("BENCH_SAMPLES", 60)?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target")
        .canonicalize()?;
    let mut report = Report::default();
    match env::var("BENCH_ONLY") {
        Ok(part) if part == "isolation" => {
            measure_layers(&target, samples, &mut report).await?;
            return show(&report, &target.join("bench/isolation.json"));
        }
        Ok(part) => bail!("BENCH_ONLY must be isolation, not {part}"),
        Err(_) => {}
    }

    let cluster = Cluster::connect().await?;
    println!("{samples} samples of each kind, in turn");
    take_samples(&cluster, &target, samples, &mut report).await?;
    measure_layers(&target, samples, &mut report).await?;
    let finished = setting("BENCH_FINISHED", 1000)?;
    if finished > 0 {
        println!("memory and CPU beside {finished} finished executions");
        report.idle = with_finished_executions(&cluster, finished).await?;
        if report.idle.is_empty() {
            println!("SKIPPED: the processes are not on this machine, so nobody can measure them");
        }
    }

    show(&report, &target.join("bench/report.json"))
}

#[cfg(target_os = "linux")]
async fn measure_layers(target: &Path, samples: usize, report: &mut Report) -> Result<()> {
    println!("the runner with its own layers and without");
    codeexec_e2e::bench::measure_isolation(&target.join("release/codeexec-runner"), samples, report).await
}

#[cfg(not(target_os = "linux"))]
async fn measure_layers(_: &Path, _: usize, _: &mut Report) -> Result<()> {
    bail!("only Linux has the runner's layers")
}

fn show(report: &Report, file: &Path) -> Result<()> {
    print!("\n{}", report.table());
    fs::create_dir_all(file.parent().context("a folder")?)?;
    fs::write(file, serde_json::to_string_pretty(report)? + "\n")?;
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
