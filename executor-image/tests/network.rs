//! What the runner reports of the network around it.

mod common;

use std::net::TcpListener;

use codeexec_runner::frames::{FromRunner, NetworkReport, Reach, ToRunner};
use common::{Start, request, run, run_in};

/// The machine's network, in which Kubernetes is said to be at this port.
fn with_kubernetes_at(port: u16) -> Start {
    let port = port.to_string();
    Start::default()
        .bwrap(&["--share-net"])
        .bwrap(&["--setenv", "KUBERNETES_SERVICE_HOST", "127.0.0.1"])
        .bwrap(&["--setenv", "KUBERNETES_SERVICE_PORT", &port])
}

#[test]
fn without_a_network_everything_is_blocked_from_the_first_report_on() {
    let ran = run("print(1)");
    let nothing = NetworkReport {
        kubernetes_api: Reach::Blocked,
        metadata: Reach::Blocked,
        dns: Reach::Blocked,
    };
    assert_eq!((ran.ready.network, ran.result.network), (nothing, nothing));
}

#[test]
fn an_open_network_is_reported_although_the_program_gets_nothing_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback");
    let port = listener.local_addr().expect("bound").port();
    let connect = format!(
        "import socket\ntry: socket.create_connection(('127.0.0.1', {port}), 1)\nexcept OSError as e: print(e.errno)"
    );
    let ran = run_in(with_kubernetes_at(port), &request(&connect));
    assert_eq!(ran.result.network.kubernetes_api, Reach::Reachable);
    assert_eq!(ran.stdout, "1\n");
}

#[test]
fn silence_is_reported_once_it_has_lasted_and_delays_nothing() {
    // A listener whose backlog is full answers nobody.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback");
    let address = listener.local_addr().expect("bound");
    rustix::net::listen(&listener, 0).expect("a listener may change its backlog");
    let _waiting = std::net::TcpStream::connect(address).expect("room for one");
    let silent = || with_kubernetes_at(address.port());
    let ran = run_in(silent(), &request("print(1)"));
    assert_eq!(ran.result.network.kubernetes_api, Reach::Pending);
    assert!(ran.result.run_ms < 1000, "{:?}", ran.result);

    // Who waits for it hears of it without asking.
    let mut runner = silent().start();
    runner.send(&ToRunner::Hello);
    let blocked = std::iter::from_fn(|| runner.next()).find_map(|frame| match frame {
        FromRunner::Ready(ready) if !ready.network.is_pending() => Some(ready.network.kubernetes_api),
        _ => None,
    });
    assert_eq!(blocked, Some(Reach::Blocked));
}
