//! `Idempotency-Key`: a request that is repeated runs its program once.
//!
//! As the IETF's draft has it (draft-ietf-httpapi-idempotency-key-header), with two differences: the key need not be
//! in quotation marks, and a retry of a request that is still running waits for it in place of a 409.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::error::ApiError;
use crate::backend::id_of;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key in characters.
pub const MAX_CHARS: usize = 255;

/// Marks an answer that is about an execution of before.
pub const REPLAYED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("idempotent-replayed"),
    HeaderValue::from_static("true"),
);

/// A client's own name for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// That of a request, if it has one.
    ///
    /// # Errors
    /// 400 where it is not 1 to 255 visible characters of ASCII, or given twice.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let invalid = |rule: &str| ApiError::invalid(format!("Idempotency-Key {rule}"));
        let mut values = headers.get_all(KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(invalid("must be given once"));
        }
        // Bytes that are not visible ASCII are refused below.
        let text = value.to_str().unwrap_or_default();
        // The draft's quotation marks belong to the header, not to the key.
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let key = inner.unwrap_or(text);
        let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > MAX_CHARS || !is_visible {
            return Err(invalid("must be 1 to 255 visible ASCII characters"));
        }
        Ok(Some(Self(key.to_owned())))
    }

    /// The name of the one execution that this key stands for with this user.
    #[must_use]
    pub fn execution_id(&self, user: &str) -> String {
        let mut hash = Sha256::new_with_prefix("codeexec idempotency key");
        // The length keeps a user's end apart from a key's beginning.
        hash.update((user.len() as u64).to_be_bytes());
        hash.update(user);
        hash.update(&self.0);
        let mut bits = [0; 16];
        bits.copy_from_slice(&hash.finalize()[..16]);
        id_of(u128::from_be_bytes(bits))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Result<Option<IdempotencyKey>, ApiError> {
        let headers = values
            .iter()
            .map(|value| (KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        IdempotencyKey::of(&headers.collect())
    }

    #[test]
    fn a_key_is_visible_ascii_with_or_without_the_drafts_quotation_marks() {
        assert_eq!(parse(&[]), Ok(None));
        let key = parse(&["8e03978e-40d5-43dd-bc93-6894a57f9324"]).unwrap();
        assert!(key.is_some());
        assert_eq!(parse(&["\"8e03978e-40d5-43dd-bc93-6894a57f9324\""]), Ok(key));
        assert!(parse(&[&"x".repeat(255)]).is_ok());
        for bad in ["", "\"\"", "a b", "é", "a\tb", &"x".repeat(256)] {
            let error = parse(&[bad]).unwrap_err();
            assert_eq!(error.status, 400);
            assert!(error.message.starts_with("Idempotency-Key must be"), "{bad}");
        }
        assert!(parse(&["a", "a"]).is_err());
    }

    #[test]
    fn a_name_belongs_to_a_user_and_a_key() {
        let id = |user: &str, key: &str| IdempotencyKey(key.to_owned()).execution_id(user);
        assert_eq!(id("alice", "1"), id("alice", "1"));
        assert_ne!(id("alice", "1"), id("alice", "2"));
        assert_ne!(id("alice", "1"), id("bob", "1"));
        assert_ne!(id("alice", "x1"), id("alicex", "1"));
        // Written down, because another version of the server must find the same record.
        assert_eq!(id("alice", "1"), "cex-3geh4cgff3fysx2v");
        assert_eq!(id("alice", "1").len(), crate::backend::new_id().len());
    }
}
