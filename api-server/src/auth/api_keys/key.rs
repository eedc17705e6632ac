//! A key and its hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What every key begins with: scanners for leaked secrets find it, and no token of an issuer begins so.
pub const PREFIX: &str = "cex_";

/// How hashes are written down, so that another function could stand beside this one some day.
const HASH_PREFIX: &str = "sha256:";

/// A new key: the prefix and 256 bits of the system's randomness.
#[must_use]
pub fn new_key() -> String {
    let random: [u8; 32] = rand::random();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// The SHA-256 of a whole key. One round is enough, and a salt would add nothing: nobody tries out 2^256
/// keys, which is what slow hashes are there to make expensive where people choose passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// What is no hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be sha256: and 64 hexadecimal digits (codeexec-api new-key makes one)")]
pub struct NotAHash;

impl KeyHash {
    /// The hash of a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for KeyHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(NotAHash)?.as_bytes();
        if digits.len() != 64 {
            return Err(NotAHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NotAHash);
            // Two digits of 16 make a byte.
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_have_256_bits() {
        let (one, other) = (new_key(), new_key());
        assert_ne!(one, other);
        let random = URL_SAFE_NO_PAD.decode(one.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!(random.len() * 8, 256);
    }

    #[test]
    fn hashes_are_written_as_sha256sum_writes_them() {
        let hash = KeyHash::of("cex_a");
        let text = hash.to_string();
        // printf cex_a | sha256sum
        assert_eq!(
            text,
            "sha256:23715e4179ca05c5a6ed4a3cbdc890d4031baa8e6d15fbcac799bea5bc7f2791"
        );
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(text.to_uppercase().replace("SHA256", "sha256").parse(), Ok(hash));
        for bad in [
            "",
            "sha256:",
            "cex_a",
            &text[7..],
            &text[..70],
            &format!("{text}0"),
            &text.replace('a', "é"),
        ] {
            assert_eq!(bad.parse::<KeyHash>(), Err(NotAHash), "{bad}");
        }
    }
}
