//! API keys: 256 random bits each, of which only hashes are kept.

pub mod command;
mod format;
mod key;
pub mod secret;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::format::{Keys, Problem};
pub use self::key::{KeyHash, PREFIX, new_key};
use super::{Identity, Refusal};
use crate::files::{FileError, Followed};

/// Where the hashes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A Secret of this name, beside the API server
    Secret(String),
    /// A file
    File(PathBuf),
}

/// Why the keys can't be read at the start.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read.
    #[error("--api-keys-file: {0}")]
    File(#[from] FileError),
    /// The file is not what it must be.
    #[error("--api-keys-file: {path}: {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// The keys as they are at the moment.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    /// `None` until they were read for the first time.
    current: watch::Receiver<Option<Arc<Keys>>>,
}

impl ApiKeys {
    /// Keys that somebody else keeps up to date.
    #[must_use]
    pub fn new(current: watch::Receiver<Option<Arc<Keys>>>) -> Self {
        Self { current }
    }

    /// Reads a file, and again whenever it changes. A change that is not even JSON leaves the keys as they
    /// were: it may be half of what somebody is writing.
    ///
    /// # Errors
    /// [`KeysError`], when it can't be read now.
    pub async fn follow_file(path: PathBuf) -> Result<Self, KeysError> {
        let (mut file, content) = Followed::open(vec![path.clone()]).await?;
        let read = |content: &[Vec<u8>]| Keys::of_file(content.first().map_or(&[], Vec::as_slice));
        let content_error = |problem| KeysError::Content {
            path: path.clone(),
            problem,
        };
        let (keys, problems) = read(&content).map_err(content_error)?;
        // At the start somebody looks, so that a single bad entry is told as an error.
        if let Some(problem) = problems.into_iter().next() {
            return Err(content_error(problem));
        }
        tracing::info!(path = %path.display(), keys = keys.len(), "API keys are read");
        let (current_tx, current) = watch::channel(Some(Arc::new(keys)));
        tokio::spawn(async move {
            loop {
                let content = tokio::select! {
                    content = file.changed() => content,
                    () = current_tx.closed() => return,
                };
                update(&current_tx, read(&content));
            }
        });
        Ok(Self { current })
    }

    /// Whose key this is.
    ///
    /// # Errors
    /// When it is nobody's, or the keys were not read yet.
    pub fn identify(&self, key: &str) -> Result<Identity, Refusal> {
        let current = self.current.borrow();
        let keys = current.as_ref().ok_or(Refusal::Unavailable)?;
        let identity = keys.find(key).cloned();
        identity.ok_or(Refusal::Invalid("nobody has this key"))
    }

    /// Whether they were read.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.current.borrow().is_some()
    }
}

/// Takes what a changed file holds. What is not even JSON is half of what somebody is writing.
fn update(current: &watch::Sender<Option<Arc<Keys>>>, read: Result<(Keys, Vec<Problem>), Problem>) {
    match read {
        Ok((keys, problems)) => replace(current, keys, &problems),
        Err(problem) => tracing::error!(%problem, "the API keys' file: they stay as they were"),
    }
}

/// Puts other keys in place of the ones before.
fn replace(current: &watch::Sender<Option<Arc<Keys>>>, keys: Keys, problems: &[Problem]) {
    for problem in problems {
        tracing::error!(%problem, "an API key's entry is left out");
    }
    tracing::info!(keys = keys.len(), "API keys are read");
    current.send_replace(Some(Arc::new(keys)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn entry(key: &str) -> String {
        format!(r#"{{"hashes": ["{}"]}}"#, KeyHash::of(key))
    }

    async fn until(keys: &ApiKeys, what: impl Fn(&ApiKeys) -> bool) {
        let mut current = keys.current.clone();
        let changes = async {
            while !what(keys) {
                current.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), changes)
            .await
            .expect("the keys change");
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let (old, new) = (new_key(), new_key());
        fs::write(&path, format!(r#"{{"alice": {}}}"#, entry(&old))).unwrap();
        let keys = ApiKeys::follow_file(path.clone()).await.unwrap();
        assert_eq!(keys.identify(&old).unwrap().user, "alice");

        // Both are good while the caller changes over, then only the new one.
        let both = format!(
            r#"{{"alice": {{"hashes": ["{}", "{}"]}}}}"#,
            KeyHash::of(&old),
            KeyHash::of(&new)
        );
        fs::write(&path, both).unwrap();
        until(&keys, |keys| keys.identify(&new).is_ok()).await;
        assert!(keys.identify(&old).is_ok());
        fs::write(
            &path,
            format!(r#"{{"alice": {}, "bob": {{"hashes": 1}}}}"#, entry(&new)),
        )
        .unwrap();
        until(&keys, |keys| keys.identify(&old).is_err()).await;
        assert!(keys.identify(&new).is_ok());
    }

    #[test]
    fn half_a_file_changes_nothing() {
        let key = new_key();
        let whole = format!(r#"{{"alice": {}}}"#, entry(&key));
        let (current_tx, current) = watch::channel(None);
        let keys = ApiKeys::new(current);
        update(&current_tx, Keys::of_file(whole.as_bytes()));
        update(&current_tx, Keys::of_file(&whole.as_bytes()[..20]));
        assert_eq!(keys.identify(&key).unwrap().user, "alice");
        // But one without entries holds no key.
        update(&current_tx, Keys::of_file(b"{}"));
        assert!(keys.identify(&key).is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_wrong_at_the_start_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let error = ApiKeys::follow_file(path.clone()).await.unwrap_err().to_string();
        assert!(
            error.starts_with("--api-keys-file: ") && error.contains("keys.json"),
            "{error}"
        );
        for content in ["", "[]", r#"{"alice": {"hashes": ["cex_secret"]}}"#] {
            fs::write(&path, content).unwrap();
            let error = ApiKeys::follow_file(path.clone()).await.unwrap_err().to_string();
            assert!(error.contains("keys.json"), "{error}");
            assert!(!error.contains("cex_secret"), "{error}");
        }
    }

    #[test]
    fn keys_that_were_never_read_refuse_nobody_for_good() {
        let (_keep, current) = watch::channel(None);
        let keys = ApiKeys::new(current);
        assert_eq!(keys.identify(&new_key()), Err(Refusal::Unavailable));
        assert!(!keys.are_known());
    }
}
