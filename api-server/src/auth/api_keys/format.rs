//! How hashes are written down: one entry a user, JSON, the same in a Secret and in a file.
//!
//! ```json
//! {"hashes": ["sha256:…"], "user": "alice@example.com", "perMinute": 60, "concurrent": 4, "admin": false}
//! ```

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::key::KeyHash;
use crate::auth::{Identity, UserLimits, Via, user};

/// Keys of one user that are valid at once: the old one and the new one while callers change over. More would
/// be keys that somebody forgot.
const MAX_HASHES: usize = 2;

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    hashes: Vec<String>,
    user: Option<String>,
    per_minute: Option<u32>,
    concurrent: Option<u32>,
    #[serde(default)]
    admin: bool,
}

/// What is wrong with an entry, or with all of them. It holds no value: somebody may have put a key where a
/// hash belongs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The whole file is something else.
    #[error("must be a JSON object with an entry for each user: {0}")]
    NotEntries(String),
    /// One entry is something else.
    #[error("entry {entry}: {what}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
}

/// All keys, by hash.
#[derive(Debug, Default)]
pub struct Keys(HashMap<KeyHash, Identity>);

impl Keys {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key this is. The look-up is by the hash of what was given, so what it takes depends on a number
    /// that nobody can choose: who wants to learn a stored hash bit by bit would need keys whose hashes begin
    /// with given bits, and even a hash known in full opens nothing.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Identity> {
        self.0.get(&KeyHash::of(key))
    }

    /// The content of a file.
    ///
    /// # Errors
    /// When it is no object. Single bad entries are left out and told beside the keys.
    pub fn of_file(content: &[u8]) -> Result<(Self, Vec<Problem>), Problem> {
        let entries: BTreeMap<String, Value> =
            serde_json::from_slice(content).map_err(|error| Problem::NotEntries(place(&error)))?;
        let entries = entries
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_string().into_bytes()));
        Ok(Self::read(entries))
    }

    /// The data of a Secret. Each entry stands for itself: one that somebody broke must not keep a key alive
    /// that was taken out of another.
    pub fn read<'a>(entries: impl Iterator<Item = (&'a str, Vec<u8>)>) -> (Self, Vec<Problem>) {
        let mut keys = Self::default();
        let mut problems = Vec::new();
        for (entry, content) in entries {
            if let Err(what) = keys.add(entry, &content) {
                let entry = entry.escape_debug().take(64).collect();
                problems.push(Problem::Entry { entry, what });
            }
        }
        (keys, problems)
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), String> {
        let entry: Entry = serde_json::from_slice(content).map_err(|error| place(&error))?;
        let identity = Identity {
            user: entry.user.unwrap_or_else(|| name.to_owned()),
            is_admin: entry.admin,
            limits: UserLimits {
                per_minute: entry.per_minute,
                concurrent: entry.concurrent,
            },
            via: Via::ApiKeys,
        };
        user::check(&identity.user, Via::ApiKeys).map_err(|rule| format!("user {rule}"))?;
        if !(1..=MAX_HASHES).contains(&entry.hashes.len()) {
            return Err(format!(
                "hashes must be 1 or {MAX_HASHES}, not {}",
                entry.hashes.len()
            ));
        }
        let mut hashes = Vec::new();
        for (at, text) in entry.hashes.iter().enumerate() {
            let hash = text.parse().map_err(|error| format!("hashes[{at}] {error}"))?;
            if self.0.contains_key(&hash) {
                return Err(format!("hashes[{at}] stands in another entry, too"));
            }
            hashes.push(hash);
        }
        self.0
            .extend(hashes.into_iter().map(|hash| (hash, identity.clone())));
        Ok(())
    }
}

/// Where JSON is wrong and how, without a value of it: serde's own sentence quotes what it found.
fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "it has a field that is unknown, missing or of a wrong type",
        _ => "it is not JSON",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::super::key::new_key;
    use super::*;

    fn read(entries: &[(&str, String)]) -> (Keys, Vec<String>) {
        let entries = entries
            .iter()
            .map(|(name, content)| (*name, content.clone().into_bytes()));
        let (keys, problems) = Keys::read(entries);
        (keys, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_entry_says_who_and_what_they_may() {
        let key = new_key();
        let content = format!(
            r#"{{"hashes": ["{}"], "user": "alice@example.com", "perMinute": 60, "concurrent": 4, "admin": true}}"#,
            KeyHash::of(&key)
        );
        let (keys, problems) = read(&[("alice", content)]);
        assert_eq!(problems, Vec::<String>::new());
        let limits = UserLimits {
            per_minute: Some(60),
            concurrent: Some(4),
        };
        let expected = Identity {
            user: "alice@example.com".to_owned(),
            is_admin: true,
            limits,
            via: Via::ApiKeys,
        };
        assert_eq!(keys.find(&key), Some(&expected));
        assert_eq!(keys.find(&new_key()), None);
        assert_eq!(keys.find(""), None);
    }

    #[test]
    fn the_name_of_the_entry_is_the_user_and_nothing_more_is_given() {
        let (one, other) = (new_key(), new_key());
        let content = format!(
            r#"{{"hashes": ["{}", "{}"]}}"#,
            KeyHash::of(&one),
            KeyHash::of(&other)
        );
        let (keys, _) = read(&[("ci", content)]);
        for key in [one, other] {
            assert_eq!(keys.find(&key), Some(&Identity::new("ci", Via::ApiKeys)));
        }
    }

    #[test]
    fn a_bad_entry_is_named_left_out_and_hurts_no_other() {
        let key = new_key();
        let good = format!(r#"{{"hashes": ["{}"]}}"#, KeyHash::of(&key));
        let hashes = |count: usize| {
            let hashes = (0..count).map(|_| format!("\"{}\"", KeyHash::of(&new_key())));
            format!(r#"{{"hashes": [{}]}}"#, hashes.collect::<Vec<_>>().join(","))
        };
        for (bad, what) in [
            (String::new(), "it is not JSON"),
            ("cex_secret".to_owned(), "it is not JSON"),
            (r#"{"hashes": "cex_secret"}"#.to_owned(), "wrong type"),
            (
                r#"{"hashes": ["cex_secret"]}"#.to_owned(),
                "hashes[0] must be sha256:",
            ),
            (r#"{"hashes": [], "cex_secret": 1}"#.to_owned(), "unknown"),
            (hashes(0), "hashes must be 1 or 2, not 0"),
            (hashes(3), "hashes must be 1 or 2, not 3"),
            (
                hashes(1).replace('}', r#", "user": "system:cex_secret"}"#),
                "user must not begin with system:",
            ),
            (hashes(1).replace('}', r#", "perMinute": -1}"#), "wrong type"),
        ] {
            let (keys, problems) = read(&[("bad", bad), ("good", good.clone())]);
            assert!(
                problems[0].starts_with("entry bad: ") && problems[0].contains(what),
                "{problems:?}"
            );
            assert!(!problems[0].contains("cex_secret"), "{problems:?}");
            assert_eq!((keys.len(), problems.len()), (1, 1));
            assert!(keys.find(&key).is_some());
        }
    }

    #[test]
    fn a_key_has_one_owner() {
        let key = new_key();
        let content = format!(r#"{{"hashes": ["{}"]}}"#, KeyHash::of(&key));
        let (keys, problems) = read(&[("alice", content.clone()), ("bob", content)]);
        assert_eq!(keys.find(&key).unwrap().user, "alice");
        assert_eq!(problems, ["entry bob: hashes[0] stands in another entry, too"]);
    }
}
