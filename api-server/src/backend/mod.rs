//! What runs programs: a cluster, or this machine.

pub mod kubernetes;
pub mod local;

use codeexec_crds::{CodeExecutionSpec, CodeExecutionStatus, Phase, Reason};
use codeexec_runner::frames::Output;
use futures::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

/// One program to run, already validated.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of its execution, unique.
    pub id: String,
    /// What to run.
    pub spec: CodeExecutionSpec,
    /// Whether somebody may look on while it runs. Whoever waits for the answer sees nothing before it.
    pub live: bool,
}

/// Whether a program goes on once nobody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is cancelled then, unless the server is shutting down.
    WhileWaitedFor,
    /// It runs to its end all the same.
    ToItsEnd,
}

/// A program that runs, or will, or has run before.
pub struct Started {
    /// Whether it was taken on now. Otherwise it is the same client's, from a request of before.
    pub is_new: bool,
    /// What comes of it. Dropping it means that nobody waits any more.
    pub end: End,
}

/// What happens to an execution before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It waits; again whenever its place changes.
    Queued {
        /// How many wait before it, and itself, where that is known.
        position: Option<i32>,
    },
    /// Its program runs.
    Started {
        /// Since then, where that is known.
        at: Option<Timestamp>,
    },
    /// Its program printed this.
    Printed(Output),
}

/// What comes of an execution.
pub type End = BoxFuture<'static, Result<CodeExecutionStatus, BackendError>>;

/// Runs programs.
pub trait Backend: Send + Sync + 'static {
    /// Takes a program on, or finds the one that has its name. Dropping the future is dropping [`Started::end`].
    ///
    /// # Errors
    /// [`BackendError`]; the one that has its name may be another one, which is [`BackendError::KeyReused`].
    fn start(&self, job: Job, keep: Keep) -> BoxFuture<'_, Result<Started, BackendError>>;

    /// Finds the program that has this one's name, and takes nothing on.
    ///
    /// # Errors
    /// As [`Backend::start`].
    fn rejoin(&self, job: Job) -> BoxFuture<'_, Result<Option<Started>, BackendError>>;

    /// How an execution stands, if there is one of that name.
    ///
    /// # Errors
    /// [`BackendError`].
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Execution>, BackendError>>;

    /// Tells of one that has not ended as it goes on, and of its output from the piece with the number `next_seq` on,
    /// until its end, which comes back. It may come before all of its output was told: it has all of it. A receiver
    /// that is slow holds up nothing but this.
    fn follow(&self, id: &str, next_seq: u64, progress_tx: mpsc::Sender<Progress>) -> End;

    /// A page of executions, in the order of their names.
    ///
    /// # Errors
    /// [`BackendError`].
    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BackendError>>;

    /// Has an execution ended. One that has ended, or is gone, stays as it is.
    ///
    /// # Errors
    /// [`BackendError`].
    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Whether programs can be run at present; otherwise a sentence that says why not.
    ///
    /// # Errors
    /// That sentence.
    fn ready(&self) -> Result<(), String>;
}

/// An execution as its record tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// When it was taken on.
    pub created: Timestamp,
    /// How it stands.
    pub status: CodeExecutionStatus,
}

impl Execution {
    /// Where it stands. Before anybody has looked at it, it waits.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.status.phase.unwrap_or(Phase::Queued)
    }

    /// Whether its status is its result.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase().is_terminal()
    }
}

/// An execution in a list: small, whatever it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// Where it stands.
    pub phase: Phase,
    /// The cause of its end.
    pub reason: Option<Reason>,
    /// When it was taken on.
    pub created: Timestamp,
}

/// Which executions to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Only those of this user.
    pub user: Option<String>,
    /// Only those that stand there.
    pub stage: Option<Stage>,
    /// Only those taken on at that time or later.
    pub since: Option<Timestamp>,
    /// Where the page of before ended.
    pub after: Option<String>,
    /// Most executions in the page.
    pub limit: usize,
}

impl Query {
    /// Whether it asks for this one.
    #[must_use]
    pub fn matches(&self, listed: &Listed) -> bool {
        self.user.as_ref().is_none_or(|user| *user == listed.user)
            && self.stage.is_none_or(|stage| stage == Stage::from(listed.phase))
            && self.since.is_none_or(|since| listed.created >= since)
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What it holds. It may be less than was asked for, and nothing at all, and still not be the last.
    pub items: Vec<Listed>,
    /// Where the next one begins, for [`Query::after`]; nothing where this is the last.
    pub next: Option<String>,
}

/// Where an execution stands, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It waits.
    Queued,
    /// Its program runs.
    Running,
    /// It exited with 0.
    Success,
    /// It reached its timeout.
    Timeout,
    /// It ended in any other way.
    Error,
}

impl Stage {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Success,
        Self::Timeout,
        Self::Error,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Success => "success",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

impl From<Phase> for Stage {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Queued => Self::Queued,
            Phase::Running => Self::Running,
            Phase::Succeeded => Self::Success,
            Phase::TimedOut => Self::Timeout,
            Phase::Failed | Phase::Cancelled => Self::Error,
        }
    }
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
    /// Another program has this one's name.
    #[error("the Idempotency-Key was used for another request")]
    KeyReused,
    /// A list can't be continued where the client wants to.
    #[error("continue is not valid any more: begin the list anew, without it")]
    ListExpired,
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
    id_of(rand::random())
}

/// The name that the lower 80 of these bits stand for.
#[must_use]
pub fn id_of(bits: u128) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let word: String = (0..16)
        .map(|at| char::from(ALPHABET[(bits >> (at * 5)) as usize & 31]))
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
