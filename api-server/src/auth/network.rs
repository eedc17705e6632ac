//! Addresses: which are proxies of ours, and which one a client has behind them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The header in which each proxy adds the address that it was called from.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// A range of addresses, `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// What is not a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor a range.
    #[error("it must be an address or a range such as 10.0.0.0/8 or fd00::/8")]
    Form,
    /// IPv4 in the clothes of IPv6, which no address is compared as.
    #[error("write it as IPv4: addresses such as ::ffff:10.0.0.1 are taken for 10.0.0.1")]
    Mapped,
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| NetworkError::Form)?;
        match network {
            IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err(NetworkError::Mapped),
            _ => Ok(Self(network.trunc())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The proxies whose headers are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Those in these ranges.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }

    /// The address of the client: the peer's, or, as long as it is a listed proxy's, the one that this proxy
    /// says it was called from. Read from the right: what stands further left was written by whoever called,
    /// and may be anything. Where a proxy wrote rubbish, it is the client itself.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let values = headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>();
        // Header lines of one name are one list, in their order.
        let mut hops = values
            .iter()
            .rev()
            .flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        while self.contains(client) {
            match hops.next().map(address) {
                Some(Some(hop)) => client = hop,
                Some(None) | None => break,
            }
        }
        client
    }
}

/// An entry of the header: an address, which some proxies write with a port or in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare
        .unwrap_or(hop)
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn forwarded(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| {
            (
                HeaderName::from_static(FORWARDED_FOR),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        HeaderMap::from_iter(values)
    }

    fn client(peer: &str, values: &[&str]) -> String {
        let proxies = proxies(&["10.0.0.0/8", "fd00::/8"]);
        proxies
            .client(peer.parse().unwrap(), &forwarded(values))
            .to_string()
    }

    #[test]
    fn the_header_of_an_unlisted_address_says_nothing() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
    }

    #[test]
    fn the_first_unlisted_address_from_the_right_is_the_client() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.2.3.4"]),
            "198.51.100.1"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "198.51.100.1", "10.2.3.4"]),
            "198.51.100.1"
        );
        assert_eq!(client("10.0.0.1", &["10.9.9.9,10.2.3.4"]), "10.9.9.9");
    }

    #[test]
    fn rubbish_ends_the_way_back_at_the_proxy_that_wrote_it() {
        for rubbish in [
            "",
            "unknown",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "[::1",
            "caf\u{e9}",
            "1.2.3.4 5.6.7.8",
        ] {
            let mut headers = forwarded(&["198.51.100.1"]);
            headers.append(
                FORWARDED_FOR,
                HeaderValue::from_bytes(rubbish.as_bytes()).unwrap(),
            );
            let found = proxies(&["10.0.0.0/8"]).client("10.0.0.1".parse().unwrap(), &headers);
            assert_eq!(found.to_string(), "10.0.0.1", "{rubbish:?}");
        }
        assert_eq!(client("10.0.0.1", &["198.51.100.1, x, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        assert_eq!(client("10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(client("fd00::1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(client("fd00::1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(
            client("::ffff:10.0.0.1", &["::ffff:198.51.100.1"]),
            "198.51.100.1"
        );
    }

    #[test]
    fn networks_are_ranges_or_addresses() {
        assert!(proxies(&["192.0.2.7"]).contains("192.0.2.7".parse().unwrap()));
        assert!(!proxies(&["192.0.2.7"]).contains("192.0.2.8".parse().unwrap()));
        assert!(proxies(&["192.0.2.7/24"]).contains("192.0.2.8".parse().unwrap()));
        assert!(!proxies(&["0.0.0.0/0"]).contains("::1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8/8"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::Form), "{bad}");
        }
        assert_eq!(
            "::ffff:10.0.0.0/104".parse::<Network>(),
            Err(NetworkError::Mapped)
        );
    }

    proptest! {
        #[test]
        fn whatever_the_header_holds_the_client_is_the_peer_or_stands_in_it(
            values in proptest::collection::vec("[0-9a-f:., x\\[\\]]{0,40}", 0..4),
            peer in prop_oneof![Just("10.0.0.1"), Just("203.0.113.9")],
        ) {
            let lines = values.iter().map(String::as_str).collect::<Vec<_>>();
            let peer: IpAddr = peer.parse().unwrap();
            let found = proxies(&["10.0.0.0/8"]).client(peer, &forwarded(&lines));
            let stands_in_it = values.iter().any(|value| value.split(',').filter_map(address).any(|hop| hop == found));
            prop_assert!(found == peer || (peer.to_string() == "10.0.0.1" && stands_in_it));
        }

        #[test]
        fn what_a_client_adds_on_the_left_changes_nothing(added in "[ -~]{0,60}") {
            let honest = client("10.0.0.1", &["198.51.100.1"]);
            let forged = client("10.0.0.1", &[&format!("{added},198.51.100.1")]);
            prop_assert_eq!(honest, forged);
        }
    }
}
