//! The operator's process: settings, log, probes, election, then work until the Lease is lost.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use codeexec_operator::connection::Clients;
use codeexec_operator::dispatcher::Dispatcher;
use codeexec_operator::driver::Context;
use codeexec_operator::health::Health;
use codeexec_operator::lease::Election;
use codeexec_operator::retention;
use codeexec_operator::settings::{LogFormat, Settings};
use kube::Api;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    if let Err(problem) = start_log(&settings) {
        eprintln!(
            "--log-level {:?} is not a level or filter: {problem}",
            settings.log_level
        );
        return ExitCode::FAILURE;
    }
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(error = %failure, "stopped");
            ExitCode::FAILURE
        }
    }
}

fn start_log(settings: &Settings) -> Result<(), Failure> {
    // kube logs each refused attach as an error; a session tries many times until its container is up, and
    // logs what matters itself.
    let filter =
        EnvFilter::try_new(&settings.log_level)?.add_directive("kube_client::client::builder=off".parse()?);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
    Ok(())
}

async fn run(settings: Settings) -> Result<(), Failure> {
    let clients = Clients::connect()
        .await
        .map_err(|error| format!("no Kubernetes API to work with: {error}"))?;
    let holder = format!("{}_{:08x}", settings.identity, rand::random::<u32>());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        holder,
        namespace = settings.executions_namespace,
        "starting"
    );

    let health = Health::default();
    let probes = tokio::spawn(health.clone().serve(settings.listen));
    let leases = Api::namespaced(clients.main.clone(), &settings.executions_namespace);
    let duration = Duration::from_secs(settings.lease_seconds.unsigned_abs().into());
    let mut election = Election::new(leases, settings.lease_name.clone(), holder.clone(), duration);
    clients.main.apiserver_version().await?;
    health.set_ready();

    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let context = Arc::new(Context::new(settings, &clients, holder));
    let lead = async {
        election.acquire().await;
        let dispatcher = Dispatcher::new(context.clone());
        tokio::select! {
            () = dispatcher.run() => {}
            () = retention::run(context.clone()) => {}
            () = election.hold() => {}
        }
    };
    tokio::select! {
        // Ending the process is what stops every write of a leader that is none any more.
        () = lead => return Err("the Lease was lost".into()),
        stopped = probes => return Err(format!("the health endpoints stopped: {stopped:?}").into()),
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    election.release().await;
    Ok(())
}
