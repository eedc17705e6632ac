//! Users that a proxy of ours names in a header: a web front end that has a login of its own.

use std::net::IpAddr;
use std::str;

use axum::http::{HeaderMap, HeaderName};

use super::network::TrustedProxies;
use super::{Identity, Refusal, Via, user};

/// The header, and who may send it.
#[derive(Clone, Debug)]
pub struct UserHeader {
    name: HeaderName,
    proxies: TrustedProxies,
}

impl UserHeader {
    /// A header that is believed from these proxies.
    #[must_use]
    pub fn new(name: HeaderName, proxies: TrustedProxies) -> Self {
        Self { name, proxies }
    }

    /// The user that the peer names, if the peer is a listed proxy. From anybody else the header is as good
    /// as absent: clients can send any header.
    ///
    /// # Errors When a listed proxy sends it twice, or with what is no name. An empty one is none, too: that
    /// is how many proxies say that nobody is logged in.
    pub fn identify(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
        if !self.proxies.contains(peer) {
            return Ok(None);
        }
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        // A proxy that adds its header to one that the client sent.
        if values.next().is_some() {
            return Err(Refusal::Malformed("the proxy's user header must be given once"));
        }
        let name = str::from_utf8(value.as_bytes()).ok();
        let name = name.filter(|name| user::check(name, Via::Proxy).is_ok());
        let name = name.ok_or(Refusal::Malformed(
            "the proxy's user header holds no name that a user can have",
        ))?;
        Ok(Some(Identity::new(name, Via::Proxy)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-user");

    fn identify(peer: &str, values: &[&[u8]]) -> Result<Option<Identity>, Refusal> {
        let header = UserHeader::new(NAME, TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]));
        let values = values
            .iter()
            .map(|value| (NAME, HeaderValue::from_bytes(value).unwrap()));
        header.identify(peer.parse().unwrap(), &HeaderMap::from_iter(values))
    }

    #[test]
    fn a_listed_proxy_names_its_users() {
        for name in ["alice", "Zoë"] {
            let identity = identify("10.1.2.3", &[name.as_bytes()]).unwrap().unwrap();
            assert_eq!(identity, Identity::new(name, Via::Proxy));
        }
        assert!(identify("::ffff:10.1.2.3", &[b"alice"]).unwrap().is_some());
        assert_eq!(identify("10.1.2.3", &[]), Ok(None));
    }

    #[test]
    fn from_anybody_else_the_header_is_as_good_as_absent() {
        for peer in ["11.0.0.1", "::1", "127.0.0.1"] {
            assert_eq!(identify(peer, &[b"alice"]), Ok(None));
        }
    }

    #[test]
    fn what_is_no_name_is_refused_and_never_somebody() {
        for bad in [
            &b""[..],
            b"\xff\xfe",
            b"system:admin",
            b"anonymous",
            b"anonymous:10.0.0.1",
            b"a\tb",
        ] {
            assert!(identify("10.1.2.3", &[bad]).is_err(), "{bad:?}");
        }
        assert!(identify("10.1.2.3", &[b"alice", b"bob"]).is_err());
    }

    proptest! {
        #[test]
        fn a_name_is_taken_as_it_is_or_refused(value in proptest::collection::vec(0x20_u8..=0xff, 0..300)) {
            if HeaderValue::from_bytes(&value).is_ok()
                && let Ok(identity) = identify("10.1.2.3", &[&value]) {
                let user = identity.unwrap().user;
                prop_assert_eq!(user.as_bytes(), &value[..]);
            }
        }
    }
}
