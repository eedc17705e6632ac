//! What runs programs: a cluster, or this machine.

pub mod kubernetes;
pub mod local;

use codeexec_crds::{CodeExecutionSpec, CodeExecutionStatus};
use futures::future::BoxFuture;

/// One program to run, already validated.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of its execution, unique.
    pub id: String,
    /// What to run.
    pub spec: CodeExecutionSpec,
}

/// Runs programs. Dropping the future of [`Backend::execute`] means that nobody wants the result any more.
pub trait Backend: Send + Sync + 'static {
    /// Runs a program to its end.
    fn execute(&self, job: Job) -> BoxFuture<'_, Result<CodeExecutionStatus, BackendError>>;

    /// Whether programs can be run at present; otherwise a sentence that says why not.
    ///
    /// # Errors
    /// That sentence.
    fn ready(&self) -> Result<(), String>;
}

/// Why there is no status to show. Details of the platform go to the log, not to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Too many programs wait already, or this one waited too long.
    #[error("too many programs are waiting to run")]
    Busy {
        /// When it may be better, in seconds.
        retry_after: u32,
    },
    /// The Kubernetes API can't be reached, or does not do what we ask.
    #[error("the execution service is not available at the moment")]
    Unavailable,
    /// A quota of the namespace leaves no room for another execution.
    #[error("the quota for executions is used up")]
    QuotaExceeded,
    /// The Kubernetes API finds the execution invalid.
    #[error("the execution was refused: {0}")]
    Refused(String),
    /// Somebody deleted the execution before it ended.
    #[error("the execution was deleted before it ended")]
    Deleted,
    /// It should have ended long ago.
    #[error("the execution has no result yet; its record stays")]
    NoResult,
}

/// A new execution's name: 80 random bits, in letters and digits that are hard to mistake.
#[must_use]
pub fn new_id() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let random: u128 = rand::random();
    let word: String = (0..16)
        .map(|at| char::from(ALPHABET[(random >> (at * 5)) as usize & 31]))
        .collect();
    format!("cex-{word}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    #[test]
    fn ids_are_dns_names_and_differ() {
        let (one, other) = (new_id(), new_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 20);
        assert!(
            one.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        );
    }
}
