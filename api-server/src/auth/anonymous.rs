//! Whoever shows nothing, by address.

use std::net::{IpAddr, Ipv6Addr};

use super::user::ANONYMOUS;
use super::{Identity, Via};

/// What a customer of an IPv6 network gets at least, so that whoever has one has one name and not 2^64.
const V6_PREFIX: u8 = 64;

/// The user at an address: `anonymous:192.0.2.1`, `anonymous:2001:db8::/64`.
#[must_use]
pub fn identity(address: IpAddr) -> Identity {
    let name = match address.to_canonical() {
        IpAddr::V4(address) => format!("{ANONYMOUS}:{address}"),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - V6_PREFIX)));
            format!("{ANONYMOUS}:{network}/{V6_PREFIX}")
        }
    };
    Identity::new(name, Via::Anonymous)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn names_are_addresses_and_networks_of_ipv6() {
        for (address, name) in [
            ("192.0.2.1", "anonymous:192.0.2.1"),
            ("::ffff:192.0.2.1", "anonymous:192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "anonymous:2001:db8:1:2::/64"),
            ("2001:db8:1:2::9", "anonymous:2001:db8:1:2::/64"),
            ("::1", "anonymous:::/64"),
        ] {
            assert_eq!(identity(address.parse().unwrap()).user, name);
        }
    }
}
