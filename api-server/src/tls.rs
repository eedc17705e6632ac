//! TLS by a certificate and a key in files, which are read again when they change.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::files::{FileError, Followed};

/// How long a client may take for its handshake, two round trips and some arithmetic.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes at once, those included that wait to be served. Beyond that connections wait in the kernel.
const HANDSHAKES: usize = 1024;

/// Finished handshakes that wait to be served.
const WAITING: usize = 16;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("--tls-cert, --tls-key: {0}")]
    File(#[from] FileError),
    /// Certificate and key are not what they must be.
    #[error("--tls-cert, --tls-key: {0}")]
    Content(String),
}

/// The certificate and key of the moment.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Reads both files, and again whenever one of them changes: a new certificate counts for the next
/// connection. Files that don't belong together leave things as they were, because one is written before the
/// other.
///
/// # Errors
/// [`TlsError`], when they are of no use now.
pub async fn follow(certificate: PathBuf, key: PathBuf) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (mut files, contents) = Followed::open(vec![certificate, key]).await?;
    let first = certified(&contents, &provider)?;
    let current = Arc::new(Current(RwLock::new(first)));
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Content(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let task = Arc::downgrade(&current);
    tokio::spawn(async move {
        loop {
            let contents = files.changed().await;
            let Some(current) = task.upgrade() else { return };
            match certified(&contents, &provider) {
                Ok(certified) => {
                    *current.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
                    tracing::info!("a new certificate is in force");
                }
                Err(error) => tracing::error!(%error, "the certificate of before stays in force"),
            }
        }
    });
    Ok(Arc::new(config))
}

fn certified(contents: &[Vec<u8>], provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let [certificate, key] = contents else {
        return Err(TlsError::Content("there must be two files".to_owned()));
    };
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Content(format!("the certificate is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::Content(
            "the file holds no certificate in PEM".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TlsError::Content(format!("the file holds no private key in PEM: {error}")))?;
    let certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| TlsError::Content(format!("certificate and key don't belong together: {error}")))?;
    Ok(Arc::new(certified))
}

/// Listens for TLS. Each handshake is a task of its own, so that a slow one keeps nobody else waiting.
#[derive(Debug)]
pub struct TlsListener {
    address: SocketAddr,
    /// handshake --finished connections--> whoever serves
    finished_rx: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// Begins to accept connections.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let address = TcpListener::local_addr(&listener)?;
        let (finished_tx, finished_rx) = mpsc::channel(WAITING);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), finished_tx));
        Ok(Self { address, finished_rx })
    }
}

/// Accepts until nobody serves any more.
async fn accept(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    finished: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        // Never closed, so this is a permit.
        let permit = handshakes.clone().acquire_owned().await;
        let (connection, peer) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = finished.closed() => return,
        };
        let _ = connection.set_nodelay(true);
        let (acceptor, finished) = (acceptor.clone(), finished.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(connection)).await {
                Ok(Ok(stream)) => {
                    // Nobody serves any more: the client sees its connection close.
                    let _ = finished.send((stream, peer)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
            // Only now: while nobody takes the finished ones, there must not be more and more of them.
            drop(permit);
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.finished_rx.recv().await {
            Some(connection) => connection,
            // The task that accepts ends only after this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests;
