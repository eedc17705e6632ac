//! `make bench`: prints the table and writes `target/bench/report.json` and, as a picture, `report.svg`.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_ONLY` | all | parts to measure, separated by commas: `answers`, `warm`, `burst`, `sustained`, `isolation` and `api` (which need no cluster), `idle`. Their report is named after them |
//! | `BENCH_SAMPLES` | 60 | samples of each kind |
//! | `BENCH_SUSTAINED_SECONDS` | 20 | how long each rate is counted, in each of two turns |
//! | `BENCH_FINISHED` | 1000 | finished executions beside which memory and CPU are measured; 0 leaves that out |

// Its table is what it is for.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Duration;
use std::{env, fs};

#[cfg(not(target_os = "linux"))]
use anyhow::bail;
use anyhow::{Context, Result, ensure};
use codeexec_e2e::Cluster;
use codeexec_e2e::bench::{
    API_SERVER, Report, Section, Sections, measure_api, measure_bursts, measure_sustained, measure_warm,
    serve_api, svg, take_samples, with_finished_executions,
};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // Started by the part that measures it, so that its memory and its threads are its own.
    if let [command, rest @ ..] = arguments.as_slice()
        && command == API_SERVER
    {
        return serve_api(rest).await;
    }
    let sections = Sections::parse(env::var("BENCH_ONLY").ok().as_deref())?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target")
        .canonicalize()?;
    let mut report = Report::default();
    let measured = measure(&sections, &target, &mut report).await;
    // Minutes of measuring are shown even where a later part failed; only a whole report replaces an older one.
    print!("\n{}", report.table());
    measured?;
    write(&report, &target.join("bench"), &sections.file_name())
}

async fn measure(sections: &Sections, target: &Path, report: &mut Report) -> Result<()> {
    let samples = setting("BENCH_SAMPLES", 60)?;
    let seconds = setting("BENCH_SUSTAINED_SECONDS", 20)?;
    ensure!(seconds > 0, "BENCH_SUSTAINED_SECONDS must not be 0");
    let finished = setting("BENCH_FINISHED", 1000)?;
    for section in sections.iter() {
        match section {
            Section::Answers => {
                println!("{samples} samples of each kind, in turn");
                take_samples(&Cluster::connect().await?, target, samples, report).await
            }
            Section::Warm => {
                println!("{samples} samples of each kind from Pods that are ready");
                measure_warm(&Cluster::connect().await?, samples, report).await
            }
            Section::Burst => {
                println!("many requests at once");
                measure_bursts(&Cluster::connect().await?, report).await
            }
            Section::Sustained => {
                println!("executions a second and bare Pods a second, {seconds} s in each turn");
                let time = Duration::from_secs(u64::try_from(seconds)?);
                measure_sustained(&Cluster::connect().await?, time, report).await
            }
            Section::Isolation => measure_layers(target, samples, report).await,
            Section::Api => {
                println!("the API server before a backend that answers at once, and with 1000 that wait");
                measure_api(samples, report).await
            }
            Section::Idle if finished == 0 => Ok(()),
            Section::Idle => measure_idle(finished, report).await,
        }
        .with_context(|| format!("failed to measure {section}"))?;
    }
    Ok(())
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

async fn measure_idle(finished: usize, report: &mut Report) -> Result<()> {
    println!("memory and CPU beside {finished} finished executions");
    report.idle = with_finished_executions(&Cluster::connect().await?, finished).await?;
    if report.idle.is_empty() {
        println!("SKIPPED: the processes are not on this machine, so nobody can measure them");
    }
    Ok(())
}

/// Writes the report, and its picture beside it.
fn write(report: &Report, folder: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let file = folder.join(name).with_extension("json");
    fs::write(&file, serde_json::to_string_pretty(report)? + "\n")?;
    println!("{}", file.display());
    if let Some(picture) = svg(report) {
        let file = file.with_extension("svg");
        fs::write(&file, picture)?;
        println!("{}", file.display());
    }
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
