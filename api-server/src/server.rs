//! From settings to a server that runs until it is told to stop.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::serve::{Listener, ListenerExt};
use codeexec_trace::{TraceError, Tracing};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::app::App;
use crate::auth::Authenticator;
use crate::auth::authenticator::{AuthError, ClusterAccess};
use crate::auth::settings::AuthSettingsError;
use crate::backend::Backend;
use crate::backend::kubernetes::{self, KubernetesBackend, KubernetesError};
use crate::backend::local::{LocalBackend, LocalError};
use crate::http::docs::Docs;
use crate::http::listen::{self, Services};
use crate::http::playground;
use crate::http::receive::Room;
use crate::http::streams::Streams;
use crate::http::trace::traced;
use crate::limits::Limits;
use crate::metrics::{self, Metrics};
use crate::settings::{BackendKind, LogFormat, Settings};
use crate::tls::{self, TlsError, TlsListener};
use crate::usage::{Records, Source, Usage};

/// Why the server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The backend can't be used at all.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The same, locally.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The ways to find out who asks make no sense together.
    #[error(transparent)]
    AuthSettings(#[from] AuthSettingsError),
    /// One of them can't be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The certificate is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken, or not ours.
    #[error("failed to listen on {address} ({flag}): {source}")]
    Listen {
        /// The setting that asks for it.
        flag: &'static str,
        /// As asked for.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// Traces can't be set up.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Signals can't be received.
    #[error("failed to wait for signals: {0}")]
    Signals(io::Error),
    /// The listening socket broke.
    #[error("failed to serve: {0}")]
    Serve(io::Error),
}

/// Starts writing log lines, and those of the audit trail, to standard output.
pub fn start_log(settings: &Settings) {
    let mut filter = EnvFilter::new(&settings.log_level);
    if let Ok(directive) = codeexec_audit::OFF_ELSEWHERE.parse() {
        filter = filter.add_directive(directive);
    }
    let log = tracing_subscriber::fmt::layer();
    let log = match settings.log_format() {
        LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => log
            .with_ansi(io::stdout().is_terminal())
            .with_filter(filter)
            .boxed(),
    };
    let audit = codeexec_audit::layer(io::stdout);
    tracing_subscriber::registry().with(log).with(audit).init();
    // The default hook writes to standard error, where lines are not JSON. Where it happened is enough: the
    // message may hold a client's data.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panicked");
    }));
}

/// Serves until SIGTERM or SIGINT, and then until the open requests are answered or the grace is over.
///
/// # Errors
/// When it can't start, or the listening socket breaks.
pub async fn run(settings: Settings) -> Result<(), ServerError> {
    let stopping = CancellationToken::new();
    stop_on_signal(stopping.clone()).map_err(ServerError::Signals)?;
    let limits = match settings.backend {
        BackendKind::Kubernetes => Limits::shared(&settings),
        BackendKind::Local => Limits::alone(&settings),
    };
    let plan = settings.auth.plan(settings.backend)?;
    let tls = match settings.tls() {
        Some((certificate, key)) => Some(tls::follow(certificate, key).await?),
        None => None,
    };
    let metrics = Arc::new(Metrics::new(settings.backend == BackendKind::Local));
    let (backend, source, cluster): (Arc<dyn Backend>, Source, _) = match settings.backend {
        BackendKind::Kubernetes => {
            let client = kubernetes::connect().await?;
            let cluster = ClusterAccess {
                client: client.clone(),
                executions_namespace: settings.executions_namespace.clone(),
                patience: settings.kube_timeout(),
            };
            let backend = KubernetesBackend::with_client(client, &settings, limits.clone(), stopping.clone());
            (Arc::new(backend), records(&settings).await?, Some(cluster))
        }
        BackendKind::Local => {
            let backend = LocalBackend::start(&settings, limits.clone(), metrics.clone()).await?;
            let source = Source::Ledger(backend.ledger());
            (Arc::new(backend), source, None)
        }
    };
    let auth = Authenticator::start(plan, cluster).await?;
    serve_metrics(&settings, metrics.clone()).await?;
    let address = settings.listen();
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::Listen {
            flag: "--listen",
            address,
            source,
        })?;
    // The port may have been 0; whoever asked for that reads it here.
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, tls = tls.is_some(), version = env!("CARGO_PKG_VERSION"), "listening");
    if settings.playground && settings.backend == BackendKind::Local {
        tracing::info!("open {}", page(address, tls.is_some()));
    }
    let app = App {
        backend,
        limits,
        docs: settings.api_docs.then(|| Arc::new(Docs::new(auth.credential()))),
        playground: settings.playground,
        auth: Arc::new(auth),
        usage: Arc::new(Usage::new(source, settings.free_vcpu_seconds)),
        metrics,
        policy: settings.policy,
        http: settings.http.clone(),
        room: Room::default(),
        streams: Streams::at_most(settings.http.max_streams),
        stopping: stopping.clone(),
    };
    serve(listener, tls, app, &settings).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Serves until the app is to stop, and then until its open requests are answered or the grace is over.
///
/// # Errors
/// When it can't begin to.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: App,
    settings: &Settings,
) -> Result<(), ServerError> {
    match tls {
        Some(config) => {
            let listener = TlsListener::new(listener, config).map_err(ServerError::Serve)?;
            serve_on(listener, app, settings).await
        }
        None => {
            // Answers are written in one piece; waiting for more to send only makes them late.
            let listener = listener.tap_io(|connection| {
                let _ = connection.set_nodelay(true);
            });
            serve_on(listener, app, settings).await
        }
    }
}

async fn serve_on<L>(listener: L, app: App, settings: &Settings) -> Result<(), ServerError>
where
    L: Listener<Addr = SocketAddr>,
{
    let stopping = app.stopping.clone();
    let tracing = Tracing::start(&settings.trace, "codeexec-api")?;
    let full = app.clone().full();
    let usual = match tracing.clone() {
        Some(tracing) => traced(app.router(), tracing),
        None => app.router(),
    };
    let services = Services { usual, full };
    let server = listen::serve(listener, services, settings.http.bounds(), stopping.clone());
    let out_of_grace = async {
        stopping.cancelled().await;
        tokio::time::sleep(settings.shutdown_grace()).await;
    };
    tokio::select! {
        () = server => {}
        () = out_of_grace => tracing::warn!("the shutdown grace is over; open requests are dropped"),
    }
    if let Some(tracing) = tracing {
        tracing.stop().await;
    }
    Ok(())
}

/// What to type into a browser of this machine for the page at `/`.
fn page(mut address: SocketAddr, tls: bool) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}{}", playground::PAGE_PATH)
}

/// The finished records, read over a connection of its own: a long list must not hold up what somebody waits for.
async fn records(settings: &Settings) -> Result<Source, KubernetesError> {
    let client = kube::Client::try_from(kubernetes::config().await?)?;
    let records = Records::new(client, &settings.executions_namespace);
    Ok(Source::Records(Box::new(records)))
}

async fn serve_metrics(settings: &Settings, metrics: Arc<Metrics>) -> Result<(), ServerError> {
    let Some(address) = settings.metrics_listen() else {
        return Ok(());
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::Listen {
            flag: "--metrics-listen",
            address,
            source,
        })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "metrics at /metrics");
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(listener, metrics).await {
            tracing::error!(%error, "failed to serve metrics");
        }
    });
    Ok(())
}

fn stop_on_signal(stopping: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new connections, open requests are finished");
        stopping.cancel();
    });
    Ok(())
}
