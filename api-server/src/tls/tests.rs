use std::fs;

use rcgen::CertifiedKey as Made;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

/// Certificate and key in a folder.
struct Files {
    folder: TempDir,
    made: Made<rcgen::KeyPair>,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            made: rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap(),
        };
        files.write(&files.made.cert.pem(), &files.made.signing_key.serialize_pem());
        files
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.certificate(), certificate).unwrap();
        fs::write(self.key(), key).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("tls.key")
    }
}

async fn listener(files: &Files) -> TlsListener {
    let config = follow(files.certificate(), files.key()).await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    TlsListener::new(tcp, config).unwrap()
}

/// Connects as somebody who trusts this certificate only.
async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, connection)
        .await
}

#[tokio::test]
async fn a_slow_handshake_keeps_nobody_waiting_and_the_peer_is_known() {
    let files = Files::new();
    let mut listener = listener(&files).await;
    let address = listener.local_addr().unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    let trusted = files.made.cert.der().clone();
    let client = tokio::spawn(async move {
        let mut stream = connect(address, &trusted).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.get_ref().0.local_addr().unwrap()
    });
    let accepted = timeout(Duration::from_secs(5), listener.accept()).await;
    let (mut stream, peer) = accepted.expect("the other client is served");
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!((&text, peer), (b"hello", client.await.unwrap()));
    drop(silent);
}

#[tokio::test]
async fn a_new_certificate_counts_once_both_files_are_there() {
    let files = Files::new();
    let mut listener = listener(&files).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let old = files.made.cert.der().clone();
    let new = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(files.certificate(), new.cert.pem()).unwrap();
    assert!(connect(address, &old).await.is_ok());
    files.write(&new.cert.pem(), &new.signing_key.serialize_pem());
    let renewed = async {
        while connect(address, new.cert.der()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), renewed)
        .await
        .expect("the new one is in force");
    assert!(connect(address, &old).await.is_err());
}

#[tokio::test]
async fn files_of_no_use_are_told_at_the_start() {
    let files = Files::new();
    let other = Files::new();
    for (certificate, key, part) in [
        (
            String::new(),
            files.made.signing_key.serialize_pem(),
            "no certificate",
        ),
        (files.made.cert.pem(), String::new(), "no private key"),
        (
            files.made.cert.pem(),
            other.made.signing_key.serialize_pem(),
            "belong together",
        ),
    ] {
        files.write(&certificate, &key);
        let error = follow(files.certificate(), files.key())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--tls-cert, --tls-key: ") && error.contains(part),
            "{error}"
        );
    }
    fs::remove_file(files.key()).unwrap();
    let error = follow(files.certificate(), files.key())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("tls.key"), "{error}");
}
