use std::io;

use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn bounds() -> Bounds {
    Bounds {
        connections: 100,
        idle: Duration::from_secs(60),
        head_bytes: 8 * 1024,
    }
}

/// Answers in several sizes, and late.
fn services(release: &Arc<Notify>) -> Services {
    let release = release.clone();
    let late = || async move {
        release.notified().await;
        "late"
    };
    Services {
        usual: Router::new()
            .route("/", get(|| async { "usual" }))
            .route("/huge", get(|| async { "x".repeat(16 * 1024 * 1024) }))
            .route("/late", get(late)),
        full: Router::new().fallback(|| async { (StatusCode::SERVICE_UNAVAILABLE, "full") }),
    }
}

/// Connections within this process: nothing but what a test does makes its clock go on.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        match self.0.recv().await {
            Some(pipe) => (pipe, SocketAddr::from(([127, 0, 0, 1], 4711))),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 80)))
    }
}

struct PipeServer(mpsc::UnboundedSender<DuplexStream>);

impl PipeServer {
    fn start(bounds: Bounds) -> Self {
        let (pipes_tx, pipes_rx) = mpsc::unbounded_channel();
        let services = services(&Arc::default());
        tokio::spawn(serve(Pipes(pipes_rx), services, bounds, CancellationToken::new()));
        Self(pipes_tx)
    }

    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(1024);
        self.0.send(theirs).unwrap();
        ours
    }
}

struct TcpServer {
    address: SocketAddr,
    release: Arc<Notify>,
    stopping: CancellationToken,
    served: JoinHandle<()>,
}

impl TcpServer {
    async fn start(bounds: Bounds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, release, stopping) = (
            listener.local_addr().unwrap(),
            Arc::default(),
            CancellationToken::new(),
        );
        let served = tokio::spawn(serve(listener, services(&release), bounds, stopping.clone()));
        Self {
            address,
            release,
            stopping,
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Reads one small answer, which comes in one piece.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut buffer = [0; 1024];
    let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
    String::from_utf8_lossy(&buffer[..read.expect("an answer comes").unwrap()]).into_owned()
}

async fn ask(stream: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
    stream.write_all(ASK).await.unwrap();
    answer(stream).await
}

/// How long it takes until the server closes a connection on which nothing comes.
async fn closed_after(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let began = Instant::now();
    assert_eq!(answer(stream).await, "");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_between_requests_for_the_idle_time_only() {
    let bounds = Bounds {
        idle: Duration::from_secs(9),
        ..bounds()
    };
    let mut client = PipeServer::start(bounds).connect();
    for _ in 0..3 {
        assert!(ask(&mut client).await.ends_with("usual"));
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    assert!(ask(&mut client).await.ends_with("usual"));
    let after = closed_after(&mut client).await;
    assert!((bounds.idle..bounds.idle * 2).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn headers_that_come_byte_by_byte_are_given_up_however_steadily_they_come() {
    let bounds = Bounds {
        idle: Duration::from_secs(9),
        ..bounds()
    };
    let server = PipeServer::start(bounds);
    let mut slow = server.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let began = Instant::now();
    while slow.write_all(b"x").await.is_ok() {
        assert!(began.elapsed() < bounds.idle * 2, "it is still read");
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Others get their answers meanwhile.
        assert!(ask(&mut server.connect()).await.ends_with("usual"));
    }
    assert!(began.elapsed() >= bounds.idle, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_loses_it() {
    let server = PipeServer::start(bounds());
    let mut silent = server.connect();
    silent
        .write_all(b"GET /huge HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(UNREAD * 2).await;
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 128 * 1024, "{} bytes", rest.len());
}

#[tokio::test]
async fn too_long_and_too_many_headers_are_refused() {
    let server = PipeServer::start(bounds());
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(9 * 1024));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    for head in [long, many] {
        let mut client = server.connect();
        let told = async {
            // It may be closed before all of it is sent.
            let _ = client.write_all(head.as_bytes()).await;
            answer(&mut client).await
        };
        let told = told.await;
        assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    }
    let not_http = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut client = server.connect();
    client.write_all(not_http).await.unwrap();
    let told = answer(&mut client).await;
    assert!(!told.contains(" 200 "), "{told}");
}

#[tokio::test]
async fn the_more_connections_there_are_the_less_one_gets_and_all_is_well_once_they_end() {
    let server = TcpServer::start(Bounds {
        connections: 4,
        ..bounds()
    })
    .await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        let told = ask(&mut client).await;
        assert!(
            told.ends_with("usual") && !told.contains("connection: close"),
            "{told}"
        );
        kept.push(client);
    }
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client
            .write_all(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        waiting.push(client);
    }
    let told = ask(&mut server.connect().await).await;
    assert!(
        told.starts_with("HTTP/1.1 503 ") && told.ends_with("full"),
        "{told}"
    );
    // What is under way goes on, and its connection is not kept.
    for client in &mut waiting {
        server.release.notify_one();
        let told = answer(client).await;
        assert!(
            told.ends_with("late") && told.contains("connection: close"),
            "{told}"
        );
    }
    drop((kept, waiting));
    let room = async {
        loop {
            let mut client = server.connect().await;
            let told = ask(&mut client).await;
            if told.ends_with("usual") && !told.contains("connection: close") {
                return;
            }
        }
    };
    timeout(PATIENCE, room).await.expect("there is room again");
}

#[tokio::test]
async fn a_flood_of_connections_that_say_nothing_leaves_room_for_those_that_do() {
    let server = TcpServer::start(Bounds {
        connections: 20,
        idle: Duration::from_secs(1),
        ..bounds()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(server.connect().await);
    }
    let served = async {
        loop {
            let mut client = server.connect().await;
            if ask(&mut client).await.ends_with("usual") {
                return;
            }
        }
    };
    timeout(PATIENCE, served)
        .await
        .expect("those that say nothing make room");
}

#[tokio::test]
async fn stopping_answers_what_is_open_and_waits_for_nobody_else() {
    let server = TcpServer::start(bounds()).await;
    let mut idle = server.connect().await;
    assert!(ask(&mut idle).await.ends_with("usual"));
    let mut new = server.connect().await;
    let mut waiting = server.connect().await;
    let late = b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n";
    waiting.write_all(late).await.unwrap();
    // Each is taken in turn, so that the others are open when this one is answered.
    assert!(ask(&mut server.connect().await).await.ends_with("usual"));
    server.stopping.cancel();
    let closed = async {
        assert_eq!(answer(&mut idle).await, "");
        assert_eq!(answer(&mut new).await, "");
    };
    timeout(PATIENCE, closed)
        .await
        .expect("connections without a request close");
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!server.served.is_finished());
    server.release.notify_one();
    let told = answer(&mut waiting).await;
    assert!(
        told.ends_with("late") && told.contains("connection: close"),
        "{told}"
    );
    timeout(PATIENCE, server.served).await.expect("it ends").unwrap();
}
