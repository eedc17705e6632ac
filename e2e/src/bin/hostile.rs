//! Runs the suite of hostile programs: `hostile runner`, `hostile local`, `hostile cluster`, `hostile fuzz`.

// Its lines are what it is for.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use codeexec_e2e::hostile::{LocalMode, OnCluster, RunnerAlone, fuzz, suite};

/// Runs hostile programs and looks at what came of each: a line for every program, exit code 1 if one failed.
#[derive(Parser)]
#[command(max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    place: Place,
}

#[derive(Subcommand)]
enum Place {
    /// The runner alone, under bubblewrap
    Runner {
        #[command(flatten)]
        machine: Machine,
        #[command(flatten)]
        choice: Choice,
    },
    /// A server in local mode, which is started for it
    Local {
        /// The codeexec-api executable
        #[arg(long, value_name = "PATH", default_value_os_t = compiled("codeexec-api"))]
        api: PathBuf,
        #[command(flatten)]
        machine: Machine,
        #[command(flatten)]
        choice: Choice,
    },
    /// The chart that is installed on the cluster of KUBECONFIG
    Cluster {
        #[command(flatten)]
        choice: Choice,
    },
    /// Programs generated of those of the suite, on the runner alone
    Fuzz {
        /// For how long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// What the programs are made from; the same number makes the same programs [default: the time]
        #[arg(long, value_name = "NUMBER")]
        seed: Option<u64>,
        #[command(flatten)]
        machine: Machine,
    },
}

/// What programs on this machine run with. `deploy/run-local --version` makes it.
#[derive(Args)]
struct Machine {
    /// The codeexec-runner executable
    #[arg(long, value_name = "PATH", default_value_os_t = compiled("codeexec-runner"))]
    runner: PathBuf,
    /// The Python interpreter
    #[arg(long, value_name = "PATH", default_value_os_t = built("python/bin/python3"))]
    python: PathBuf,
}

/// Which programs of the suite.
#[derive(Args)]
struct Choice {
    /// Only those whose GROUP/NAME holds this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

/// A release build, where cargo puts it.
fn compiled(name: &str) -> PathBuf {
    let elsewhere = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    elsewhere.unwrap_or_else(|| built("")).join("release").join(name)
}

fn built(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .join("target");
    target.join(path)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().place).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Without the way there, which leads through a runtime's own code.
        Err(error) => {
            eprintln!("hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many programs failed.
async fn run(place: Place) -> Result<usize> {
    let tally = match place {
        Place::Runner { machine, choice } => {
            let place = RunnerAlone::new(&machine.runner, &machine.python).await?;
            suite(&place, &choice.filter).await?
        }
        Place::Local { api, machine, choice } => {
            let place = LocalMode::start(&api, &machine.runner, &machine.python).await?;
            suite(&place, &choice.filter).await?
        }
        Place::Cluster { choice } => suite(&OnCluster::connect().await?, &choice.filter).await?,
        Place::Fuzz {
            seconds,
            seed,
            machine,
        } => {
            let place = RunnerAlone::new(&machine.runner, &machine.python).await?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let seed = seed.unwrap_or_else(|| now.map_or(0, |since| since.as_secs()));
            fuzz(&place, seed, Duration::from_secs(seconds), &built("hostile")).await?
        }
    };
    Ok(tally.failed)
}
