//! Tokens of the cluster: its API server says whose they are (TokenReview) and what they may
//! (SubjectAccessReview).

use std::time::{Duration, Instant};

use futures::future::try_join3;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Identity, Refusal, Via, user};

/// How long an answer of the cluster holds: a token that is revoked, or whose rights are taken away, works
/// for so long.
const KNOWN: Duration = Duration::from_secs(60);

/// How long a refusal holds: rights that were just given work so soon.
const REFUSED: Duration = Duration::from_secs(10);

/// Answers that are kept, about 300 bytes each.
const KEPT: u64 = 10_000;

/// Reviews at once. Each is up to four calls; a flood of made-up tokens must not become one of the Kubernetes
/// API.
const AT_ONCE: usize = 16;

/// What the cluster says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Known(Identity),
    Refused(Refusal),
}

/// The cluster gives no answer.
#[derive(Clone, Debug, thiserror::Error)]
enum Outage {
    #[error("the Kubernetes API did not answer in time")]
    Deadline,
    #[error("failed to create {what}: {error}")]
    Call { what: &'static str, error: String },
}

/// How long each verdict is kept.
struct Holds;

impl Expiry<[u8; 32], Verdict> for Holds {
    fn expire_after_create(&self, _: &[u8; 32], verdict: &Verdict, _: Instant) -> Option<Duration> {
        match verdict {
            Verdict::Known(_) => Some(KNOWN),
            Verdict::Refused(_) => Some(REFUSED),
        }
    }
}

/// Reviews tokens. Many requests with the same token at once are one review.
pub struct ClusterTokens {
    client: Client,
    audience: String,
    namespace: String,
    patience: Duration,
    /// By the token's hash: no token stays in memory.
    verdicts: Cache<[u8; 32], Verdict>,
    reviews: Semaphore,
}

impl ClusterTokens {
    /// Takes tokens made for `audience` of those who may create CodeExecutions in `namespace`; `patience`
    /// bounds a review.
    #[must_use]
    pub fn new(client: Client, audience: &str, namespace: &str, patience: Duration) -> Self {
        Self {
            client,
            audience: audience.to_owned(),
            namespace: namespace.to_owned(),
            patience,
            verdicts: Cache::builder().max_capacity(KEPT).expire_after(Holds).build(),
            reviews: Semaphore::new(AT_ONCE),
        }
    }

    /// Whose token this is.
    ///
    /// # Errors When the cluster does not know it, when it is not for our audience, when its owner may not
    /// run programs, or when the cluster does not answer.
    pub async fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let hash = Sha256::digest(token).into();
        match self.verdicts.try_get_with(hash, self.review(token)).await {
            Ok(Verdict::Known(identity)) => Ok(identity),
            Ok(Verdict::Refused(refusal)) => Err(refusal),
            Err(outage) => {
                tracing::warn!(error = %outage, "a token can't be reviewed");
                Err(Refusal::Unavailable)
            }
        }
    }

    async fn review(&self, token: &str) -> Result<Verdict, Outage> {
        timeout(self.patience, async {
            // Never closed, so this is a permit.
            let _permit = self.reviews.acquire().await;
            let Some(owner) = self.owner(token).await? else {
                let refusal = Refusal::Invalid("the cluster does not take this token for this service");
                return Ok(Verdict::Refused(refusal));
            };
            let (may_run, may_read, may_cancel) = try_join3(
                self.may(&owner, "create"),
                self.may(&owner, "list"),
                self.may(&owner, "patch"),
            )
            .await?;
            let name = owner.username.unwrap_or_default();
            if !may_run {
                let refusal = "you may not create codeexecutions.codeexec.dev in the executions' namespace";
                return Ok(Verdict::Refused(Refusal::Forbidden(refusal)));
            }
            if user::check(&name, Via::Kubernetes).is_err() {
                let refusal = "your name in the cluster is none that a CodeExecution can carry";
                return Ok(Verdict::Refused(Refusal::Forbidden(refusal)));
            }
            Ok(Verdict::Known(Identity {
                // Nobody gets more here than with kubectl: who can read and end everybody's there can here.
                is_admin: may_read && may_cancel,
                ..Identity::new(name, Via::Kubernetes)
            }))
        })
        .await
        .unwrap_or(Err(Outage::Deadline))
    }

    /// Whose token it is, if it is somebody's and meant for us.
    async fn owner(&self, token: &str) -> Result<Option<UserInfo>, Outage> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![self.audience.clone()]),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(call("a TokenReview"))?.status.unwrap_or_default();
        // An authenticator that knows nothing of audiences answers without one: such a token is for the
        // Kubernetes API only, and would let everybody in who can get one of anybody.
        let is_for_us = status
            .audiences
            .iter()
            .flatten()
            .any(|audience| *audience == self.audience);
        let is_known = status.authenticated == Some(true);
        Ok(status.user.filter(|_| is_known && is_for_us))
    }

    /// Whether somebody may do this to the CodeExecutions of the executions' namespace.
    async fn may(&self, owner: &UserInfo, verb: &str) -> Result<bool, Outage> {
        let review = LocalSubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: owner.username.clone(),
                groups: owner.groups.clone(),
                uid: owner.uid.clone(),
                extra: owner.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("codeexec.dev".to_owned()),
                    resource: Some("codeexecutions".to_owned()),
                    namespace: Some(self.namespace.clone()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..LocalSubjectAccessReview::default()
        };
        let reviews: Api<LocalSubjectAccessReview> = Api::namespaced(self.client.clone(), &self.namespace);
        let answer = reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(call("a LocalSubjectAccessReview"))?.status;
        Ok(status.is_some_and(|status| status.allowed))
    }
}

fn call(what: &'static str) -> impl Fn(kube::Error) -> Outage {
    move |error| Outage::Call {
        what,
        error: error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests;
