//! `Authorization: Bearer <token>`, the one form in which keys and tokens come.

use axum::http::{HeaderMap, header};

use super::Refusal;

/// Longest token that is looked at, in bytes. Tokens of a cluster have about 1 KiB, those of an issuer that
/// puts groups into them several.
const MAX_BYTES: usize = 16 * 1024;

/// The token of a request, if it has an `Authorization` header at all.
///
/// # Errors
/// When the header is there, but not this one thing: whoever meant to show something must not be taken for
/// somebody who shows nothing.
pub fn token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Malformed("Authorization must be given once"));
    }
    let form = Refusal::Malformed("Authorization must be: Bearer, a space, and a key or a token");
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or(form)?;
    let token = token.trim_matches(' ');
    let is_one_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !scheme.eq_ignore_ascii_case("bearer") || !is_one_word {
        return Err(form);
    }
    if token.len() > MAX_BYTES {
        return Err(Refusal::Malformed("the token in Authorization is too long"));
    }
    Ok(Some(token))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let values = values
            .iter()
            .map(|value| (header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap()));
        HeaderMap::from_iter(values)
    }

    #[test]
    fn a_token_is_what_stands_behind_bearer_in_any_case() {
        assert_eq!(token(&HeaderMap::new()), Ok(None));
        for good in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(token(&headers(&[good.as_bytes()])), Ok(Some("abc")), "{good}");
        }
    }

    #[test]
    fn a_header_that_is_there_but_not_that_is_refused() {
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic abc",
            "abc",
            "Bearer a b",
            "Bearer\tabc",
            "Bearer caf\u{e9}",
            "Token abc",
        ] {
            assert!(token(&headers(&[bad.as_bytes()])).is_err(), "{bad:?}");
        }
        assert!(token(&headers(&[b"Bearer a", b"Bearer a"])).is_err());
        let long = format!("Bearer {}", "x".repeat(MAX_BYTES + 1));
        assert!(token(&headers(&[long.as_bytes()])).is_err());
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_counts_as_absent(value in proptest::collection::vec(0x20_u8..=0xff, 0..64)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
                prop_assert_ne!(token(&headers), Ok(None));
            }
        }
    }
}
