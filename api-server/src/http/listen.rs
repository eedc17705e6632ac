//! Serves connections: HTTP/1 only, and so many of them, and so patiently, that slow clients harm nobody.
//!
//! ```text
//!   open connections                       what one more gets
//!   up to half of --max-connections        it is kept between requests, for --idle-timeout-seconds
//!   up to --max-connections                one request, whose head must come within HURRY
//!   RESERVE beyond that                    probes are answered, everything else with 503
//!   beyond that                            it waits in the kernel
//! ```
//!
//! So clients that hold connections without using them can take half of them at most; the other half turns over
//! every few seconds. A connection that is closed with its answer, and says so, is what proxies cope with best.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long the head of a request may take once connections get scarce.
const HURRY: Duration = Duration::from_secs(5);

/// Connections beyond the bound, so that a full server can still say that it is full, and that it lives.
const RESERVE: usize = 64;

/// How long a client may take nothing at all of its answer.
const UNREAD: Duration = Duration::from_secs(30);

/// What a connection reads ahead, and collects before it writes, in bytes. hyper's own bound is 400 KiB.
const BUFFER: usize = 64 * 1024;

/// Bounds of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most of them at once.
    pub connections: usize,
    /// How long one may take to the end of its next request's head.
    pub idle: Duration,
    /// Longest head of a request, in bytes: its first line and its headers. There may be 100 headers, which is
    /// hyper's bound for those that it keeps off the heap.
    pub head_bytes: usize,
}

/// Who answers requests.
#[derive(Clone, Debug)]
pub struct Services {
    /// As long as there is room.
    pub usual: Router,
    /// On a connection beyond the bound.
    pub full: Router,
}

/// How connections are treated, by how many there are.
struct Treatment {
    http: Builder,
    service: Router,
}

/// Serves until it is to stop, and then until every open request is answered.
pub async fn serve<L>(mut listener: L, services: Services, bounds: Bounds, stopping: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
{
    let kept = Treatment {
        http: builder(&bounds, bounds.idle, true),
        service: services.usual.clone(),
    };
    let hurried = Treatment {
        http: builder(&bounds, HURRY.min(bounds.idle), false),
        service: services.usual,
    };
    let refused = Treatment {
        http: builder(&bounds, HURRY.min(bounds.idle), false),
        service: services.full,
    };
    let all = bounds.connections + RESERVE;
    let slots = Arc::new(Semaphore::new(all));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            // Never closed, so this is a permit.
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, (io, peer)) = tokio::select! {
            next = next => next,
            () = stopping.cancelled() => break,
        };
        let open = all - slots.available_permits();
        let treatment = match open {
            open if open <= bounds.connections.div_ceil(2) => &kept,
            open if open <= bounds.connections => &hurried,
            _ => &refused,
        };
        let mut io = TimeoutStream::new(io);
        io.set_write_timeout(Some(UNREAD));
        let service = treatment.service.clone();
        let answer = service_fn(move |request| answer(service.clone(), peer, request));
        let connection = treatment
            .http
            .serve_connection(TokioIo::new(Box::pin(io)), answer);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection broke off");
            }
            drop(slot);
        });
    }
    // Nobody is to connect who would not be served.
    drop(listener);
    graceful.shutdown().await;
}

fn builder(bounds: &Bounds, patience: Duration, is_kept: bool) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // It counts from the end of the answer before, so it is the idle timeout, too.
        .header_read_timeout(patience)
        .max_header_size(bounds.head_bytes)
        .max_buf_size(BUFFER.max(bounds.head_bytes))
        .keep_alive(is_kept);
    builder
}

async fn answer(
    service: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    service.oneshot(request).await
}

#[cfg(test)]
#[path = "listen_tests.rs"]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests;
