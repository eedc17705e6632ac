//! The server on a socket, with clients that are slow, many, or still there when it stops.
#![allow(clippy::unwrap_used)] // in a test a panic is a failure told

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::backend::{End, Job};
use codeexec_api::metrics::Metrics;
use codeexec_api::server::{ServerError, serve};
use codeexec_api::settings::Settings;
use codeexec_api::tls;
use codeexec_crds::{CodeExecutionStatus, Phase, Reason};
use futures::FutureExt;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

mod common;
#[path = "common/only.rs"]
mod only;

use only::{Only, Runs};

const PATIENCE: Duration = Duration::from_secs(20);

/// Ends a program for each permit.
struct Released(Arc<Semaphore>);

impl Runs for Released {
    fn run(&self, _: Job) -> End {
        let ends = self.0.clone();
        let end = async move {
            ends.acquire().await.unwrap().forget();
            Ok(CodeExecutionStatus {
                phase: Some(Phase::Succeeded),
                reason: Some(Reason::Completed),
                exit_code: Some(0),
                ..CodeExecutionStatus::default()
            })
        };
        end.boxed()
    }
}

struct Server {
    address: SocketAddr,
    ends: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    served: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    async fn start(flags: &[&str], tls: Option<Arc<ServerConfig>>) -> Self {
        let always = ["codeexec-api", "--rate-limit", "0"];
        let settings = Settings::parse_from([&always, flags].concat());
        let (ends, metrics) = (Arc::new(Semaphore::new(0)), Arc::new(Metrics::new(false)));
        let stopping = CancellationToken::new();
        let app = App {
            metrics: metrics.clone(),
            policy: settings.policy,
            stopping: stopping.clone(),
            ..common::app(Arc::new(Only(Arc::new(Released(ends.clone())))), &settings)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move { serve(listener, tls, app, &settings).await });
        Self {
            address,
            ends,
            metrics,
            stopping,
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until so many requests are under way.
    async fn under_way(&self, number: i64) {
        let wait = async {
            while self.metrics.in_flight.get() != number {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the requests arrive");
    }
}

const BODY: &str = r#"{"code": "print(1)", "language": "python"}"#;

fn head(length: usize) -> String {
    format!(
        "POST /api/execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn post(stream: &mut (impl AsyncWrite + Unpin)) {
    let request = head(BODY.len()) + BODY;
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads one small answer, whose end is that of its JSON.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.ends_with(['}', '\n']) || text.ends_with("\r\n") {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let read = read.expect("an answer comes").unwrap();
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

#[tokio::test]
async fn slow_clients_keep_nobody_waiting_and_lose_their_connections() {
    let flags = ["--body-timeout-seconds", "1", "--idle-timeout-seconds", "1"];
    let server = Server::start(&flags, None).await;
    server.ends.add_permits(1);
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = server.connect().await;
        let text = match number % 2 {
            0 => "POST /api/execute HTTP/1.1\r\nhost: x\r\n".to_owned(),
            _ => head(BODY.len()) + "{",
        };
        stream.write_all(text.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let mut client = server.connect().await;
    post(&mut client).await;
    let told = answer(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    for (number, mut stream) in slow.into_iter().enumerate() {
        let told = answer(&mut stream).await;
        match number % 2 {
            0 => assert_eq!(told, ""),
            _ => assert!(told.starts_with("HTTP/1.1 408 "), "{told}"),
        }
    }
}

#[tokio::test]
async fn a_full_server_says_so_and_answers_probes() {
    let server = Server::start(&["--max-connections", "2"], None).await;
    let mut waiting = [server.connect().await, server.connect().await];
    for stream in &mut waiting {
        post(stream).await;
    }
    server.under_way(2).await;
    let mut client = server.connect().await;
    post(&mut client).await;
    let told = answer(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(
        told.contains("retry-after: 1\r\n") && told.contains(r#""code":"overloaded""#),
        "{told}"
    );
    let mut probe = server.connect().await;
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    probe.write_all(request.as_bytes()).await.unwrap();
    let told = answer(&mut probe).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    server.ends.add_permits(2);
    for stream in &mut waiting {
        let told = answer(stream).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_open_within_the_grace() {
    let server = Server::start(&[], None).await;
    let mut client = server.connect().await;
    post(&mut client).await;
    server.under_way(1).await;
    server.stopping.cancel();
    server.ends.add_permits(1);
    let told = answer(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    let ended = timeout(PATIENCE, server.served).await;
    ended.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_waits_for_no_longer_than_the_grace() {
    let server = Server::start(&["--shutdown-grace-seconds", "0"], None).await;
    let mut client = server.connect().await;
    post(&mut client).await;
    server.under_way(1).await;
    server.stopping.cancel();
    let ended = timeout(PATIENCE, server.served).await;
    ended.expect("it ends").unwrap().unwrap();
}

async fn over_tls(
    stream: TcpStream,
    trusted: &CertificateDer<'static>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn https_has_the_same_bounds_and_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = tls::follow(certificate, key).await.unwrap();
    let server = Server::start(&["--max-connections", "2"], Some(config)).await;
    // It never says anything, and stands in nobody's way.
    let silent = server.connect().await;
    let mut waiting = Vec::new();
    for number in 1..=2 {
        let mut stream = over_tls(server.connect().await, made.cert.der()).await;
        post(&mut stream).await;
        server.under_way(number).await;
        waiting.push(stream);
    }
    let mut client = over_tls(server.connect().await, made.cert.der()).await;
    post(&mut client).await;
    let told = answer(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    server.stopping.cancel();
    server.ends.add_permits(2);
    for mut stream in waiting {
        let told = answer(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    }
    let ended = timeout(PATIENCE, server.served).await;
    ended.expect("it ends").unwrap().unwrap();
    drop(silent);
}
