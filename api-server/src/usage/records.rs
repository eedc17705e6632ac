//! The finished records of a cluster, read as metadata a page at a time.

use std::fmt;

use codeexec_crds::{CodeExecution, LABEL_PHASE, LABEL_USER, Phase, Summary};
use codeexec_execution::user_hash;
use kube::api::{Api, ListParams, ObjectMeta};
use kube::{Client, Resource};

use super::report::{Ended, Tally};

/// Records a page. The Kubernetes API may have to read them whole to tell their metadata, outputs included.
const PAGE: u32 = 250;

/// The finished records of one namespace.
#[derive(Clone)]
pub struct Records(Api<CodeExecution>);

impl fmt::Debug for Records {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Records")
            .field(&self.0.resource_url())
            .finish()
    }
}

impl Records {
    /// Those of a namespace. The client should be one of its own: lists are large.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// Tells all of a user, or of everybody.
    ///
    /// # Errors
    /// When the Kubernetes API refuses, or can't be reached.
    pub async fn tell(&self, user: Option<&str>, tally: &mut Tally) -> kube::Result<()> {
        let selector = match user {
            Some(user) => format!("{LABEL_PHASE},{LABEL_USER}={}", user_hash(user)),
            None => LABEL_PHASE.to_owned(),
        };
        let mut parameters = ListParams::default().labels(&selector).limit(PAGE);
        loop {
            let page = self.0.list_metadata(&parameters).await?;
            page.items
                .iter()
                .filter_map(|record| ended(record.meta()))
                .for_each(|ended| tally.add(&ended));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

/// What a record's metadata tells; nothing where somebody spoiled it.
fn ended(metadata: &ObjectMeta) -> Option<Ended> {
    let word = metadata.labels.as_ref()?.get(LABEL_PHASE)?;
    let phase = Phase::TERMINAL.into_iter().find(|phase| phase.as_str() == word)?;
    let summary = Summary::of(metadata)?;
    Some(Ended {
        user: summary.user,
        at: summary.ended_at.0,
        phase,
        vcpu_seconds: summary.vcpu_seconds,
        cost: summary.cost,
    })
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
