//! What the Pod's own network lets through, beside the program's filter: evidence, gathered without waiting.
//!
//! Connections are begun before the interpreter exists and looked at when a report is made. The program can't
//! slow them down, and they don't slow down the program. None of them sends a byte of data.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use codeexec_runner::frames::{NetworkReport, Reach};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// How long nobody has to answer to count as blocked. The kernel repeats its first packet after 1 s: this is two
/// packets that went unanswered.
const SILENCE: Duration = Duration::from_millis(1200);

/// Where clouds answer their machines' questions, credentials among the answers.
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

/// An address that nobody has (RFC 5737): where the real one is not known, only that there is no way to any
/// address can be told.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 443);

/// Port of name servers.
const DNS_PORT: u16 = 53;

/// Addresses that differ from cluster to cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The Kubernetes API's Service.
    pub kubernetes_api: Option<SocketAddr>,
    /// The cluster's name server.
    pub dns: Option<IpAddr>,
}

/// Connections under way.
#[derive(Debug)]
pub struct Probe {
    began: Instant,
    kubernetes_api: Attempt,
    metadata: Attempt,
    dns: Attempt,
}

/// One of them.
#[derive(Debug)]
enum Attempt {
    UnderWay { socket: OwnedFd, known_address: bool },
    Decided(Reach),
}

impl Probe {
    /// Begins all connections.
    pub fn begin(addresses: Addresses) -> Self {
        Self {
            began: Instant::now(),
            kubernetes_api: Attempt::begin(addresses.kubernetes_api),
            metadata: Attempt::begin(Some(METADATA)),
            dns: Attempt::begin(addresses.dns.map(|ip| SocketAddr::new(ip, DNS_PORT))),
        }
    }

    /// What is known by now.
    pub fn look(&mut self) -> NetworkReport {
        let silent = self.began.elapsed() >= SILENCE;
        NetworkReport {
            kubernetes_api: self.kubernetes_api.look(silent),
            metadata: self.metadata.look(silent),
            dns: self.dns.look(silent),
        }
    }

    /// The descriptors that become writable when more is known.
    pub fn waits_for(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.kubernetes_api, &self.metadata, &self.dns]
            .into_iter()
            .filter_map(|attempt| match attempt {
                Attempt::UnderWay { socket, .. } => Some(socket.as_fd()),
                Attempt::Decided(_) => None,
            })
    }

    /// When silence decides, if something is still under way.
    pub fn due(&self) -> Option<Instant> {
        self.waits_for().next().map(|_| self.began + SILENCE)
    }
}

impl Attempt {
    fn begin(address: Option<SocketAddr>) -> Self {
        let (known_address, address) = (address.is_some(), address.unwrap_or(NOBODY));
        let family = if address.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = socket_with(family, SocketType::STREAM, flags, None) else {
            return Self::Decided(Reach::Unknown);
        };
        match connect(&socket, &address) {
            Err(Errno::INPROGRESS) => Self::UnderWay {
                socket,
                known_address,
            },
            result => Self::Decided(decide(result, known_address)),
        }
    }

    fn look(&mut self, silent: bool) -> Reach {
        let Self::UnderWay {
            socket,
            known_address,
        } = self
        else {
            return match self {
                Self::Decided(reach) => *reach,
                Self::UnderWay { .. } => Reach::Pending,
            };
        };
        let answered = {
            let mut fds = [PollFd::new(&*socket, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        let known_address = *known_address;
        let reach = if answered {
            decide(socket_error(&*socket).unwrap_or(Err(Errno::IO)), known_address)
        } else if silent && known_address {
            Reach::Blocked
        } else if silent {
            Reach::Unknown
        } else {
            return Reach::Pending;
        };
        // Closes the connection, of which nothing more is wanted.
        *self = Self::Decided(reach);
        reach
    }
}

/// What the end of an attempt tells.
fn decide(result: Result<(), Errno>, known_address: bool) -> Reach {
    match result {
        Ok(()) if known_address => Reach::Reachable,
        // No way there, or somebody on the way says no; a policy that rejects looks like a closed port.
        Err(Errno::NETUNREACH | Errno::ACCESS | Errno::PERM) => Reach::Blocked,
        Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::TIMEDOUT) if known_address => Reach::Blocked,
        _ => Reach::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn probe_of(kubernetes_api: SocketAddr) -> Probe {
        Probe::begin(Addresses {
            kubernetes_api: Some(kubernetes_api),
            dns: None,
        })
    }

    fn settled(probe: &mut Probe) -> Reach {
        let begun = Instant::now();
        while begun.elapsed() < 2 * SILENCE {
            match probe.look().kubernetes_api {
                Reach::Pending => {
                    let mut fds: Vec<PollFd> = probe
                        .waits_for()
                        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT))
                        .collect();
                    let short = Timespec {
                        tv_sec: 0,
                        tv_nsec: 50_000_000,
                    };
                    let _ = poll(&mut fds, Some(&short));
                }
                known => return known,
            }
        }
        Reach::Pending
    }

    #[test]
    fn who_takes_the_connection_is_reachable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback");
        let mut probe = probe_of(listener.local_addr().expect("bound"));
        assert_eq!(settled(&mut probe), Reach::Reachable);
    }

    #[test]
    fn who_refuses_it_is_blocked() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        assert_eq!(settled(&mut probe_of(address)), Reach::Blocked);
    }

    #[test]
    fn silence_is_blocked_only_where_somebody_is_known_to_be() {
        assert_eq!(decide(Err(Errno::NETUNREACH), false), Reach::Blocked);
        assert_eq!(decide(Err(Errno::CONNREFUSED), false), Reach::Unknown);
        assert_eq!(decide(Ok(()), false), Reach::Unknown);
        assert_eq!(decide(Err(Errno::IO), true), Reach::Unknown);
    }
}
