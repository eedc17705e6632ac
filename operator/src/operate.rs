//! The operator's life: probes, election, then work until the Lease is lost.

use std::sync::Arc;
use std::time::Duration;

use codeexec_trace::Tracing;
use kube::Api;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::connection::Clients;
use crate::dispatcher::Dispatcher;
use crate::driver::Context;
use crate::health::Health;
use crate::lease::Election;
use crate::pool::keeper;
use crate::settings::Settings;
use crate::{retention, user_namespaces};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Works until it is told to stop.
///
/// # Errors
/// When there is no Kubernetes API, no address to listen on, or the Lease is lost.
pub async fn run(settings: Settings) -> Result<(), Failure> {
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

    let tracing = Tracing::start(&settings.trace, "codeexec-operator")?;
    let context = Arc::new(Context::new(
        settings.clone(),
        &clients,
        holder.clone(),
        tracing.clone(),
    ));
    let health = Health::default();
    let probes = tokio::spawn(health.clone().serve(settings.listen, context.clone()));
    let leases = Api::namespaced(clients.main.clone(), &settings.executions_namespace);
    let duration = Duration::from_secs(settings.lease_seconds.unsigned_abs().into());
    let held = context.held.clone();
    let mut election = Election::new(leases, settings.lease_name, holder, duration, held);
    clients.main.apiserver_version().await?;
    health.set_ready();

    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Whoever waits to lead finds out as well, so that nothing is left to find out when it does.
    tokio::spawn({
        let context = context.clone();
        async move { user_namespaces::begin(&context).await }
    });
    let lead = async {
        election.acquire().await;
        context.metrics.leads();
        let work = async {
            keeper::adopt(&context).await;
            tokio::join!(
                Dispatcher::new(context.clone()).run(),
                keeper::run(context.clone())
            )
        };
        tokio::select! {
            _ = work => {}
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
    if let Some(tracing) = tracing {
        tracing.stop().await;
    }
    Ok(())
}
