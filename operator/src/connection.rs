//! Clients of the Kubernetes API, and the deadline that each call gets.

use std::future::Future;
use std::time::Duration;

use kube::{Client, Config};

/// Deadline of one call. kube has no read timeout of its own.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Why a call to the Kubernetes API brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It answered with an error, or could not be reached.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// It did not answer in time; the call may have had its effect.
    #[error("no answer from the Kubernetes API within {} s", CALL_DEADLINE.as_secs())]
    Deadline,
}

impl CallError {
    /// The HTTP status of an answer; nothing where none came.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The API server's own message, or the error's.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Kube(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// Waits for a call, within the deadline.
///
/// # Errors
/// The call's own, or [`CallError::Deadline`].
pub async fn call<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    tokio::time::timeout(CALL_DEADLINE, request)
        .await
        .map_err(|_| CallError::Deadline)?
        .map_err(Into::into)
}

/// The operator's clients.
#[derive(Clone)]
pub struct Clients {
    /// For everything but attach.
    pub main: Client,
    /// For attach: its retries, many a second, broke other calls on a shared connection.
    pub attach: Client,
}

impl Clients {
    /// Connects as the Pod's account, or as the kubeconfig says outside a cluster.
    ///
    /// # Errors
    /// When neither is there or neither is usable.
    pub async fn connect() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut config = Config::infer().await?;
        // kube would retry for minutes by itself; here each caller knows better what to do meanwhile.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        Ok(Self {
            main: Client::try_from(config.clone())?,
            attach: Client::try_from(config)?,
        })
    }
}
