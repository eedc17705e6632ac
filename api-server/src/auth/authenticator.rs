//! Puts the ways together: which of them a request is for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axum::http::HeaderMap;
use kube::Client;

use super::api_keys::{ApiKeys, KeySource, KeysError, PREFIX, secret};
use super::kubernetes::ClusterTokens;
use super::network::TrustedProxies;
use super::oidc::{FetchError, Oidc};
use super::proxy::UserHeader;
use super::settings::AuthPlan;
use super::{Identity, Refusal, anonymous, bearer};
use crate::openapi::Credential;

/// Why callers can't be identified at all.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The keys can't be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The issuer can't be asked.
    #[error(transparent)]
    Oidc(#[from] FetchError),
    /// A way that needs a cluster, and there is none.
    #[error("--auth: {0} needs the Kubernetes API")]
    NoCluster(&'static str),
}

/// The cluster, for the ways that need one.
#[derive(Clone)]
pub struct ClusterAccess {
    /// Calls its API.
    pub client: Client,
    /// Where the CodeExecutions are.
    pub executions_namespace: String,
    /// Deadline of each call.
    pub patience: Duration,
}

/// Says who asks.
pub struct Authenticator {
    api_keys: Option<ApiKeys>,
    cluster: Option<ClusterTokens>,
    oidc: Option<Oidc>,
    proxy: Option<UserHeader>,
    anonymous: bool,
    trusted_proxies: TrustedProxies,
    admins: BTreeSet<String>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authenticator")
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Starts what the plan names.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn start(plan: AuthPlan, cluster: Option<ClusterAccess>) -> Result<Self, AuthError> {
        let cluster_for = |way| cluster.as_ref().ok_or(AuthError::NoCluster(way));
        let api_keys = match plan.api_keys {
            None => None,
            Some(KeySource::File(path)) => Some(ApiKeys::follow_file(path).await?),
            Some(KeySource::Secret(name)) => {
                let cluster = cluster_for("api-keys without --api-keys-file")?;
                Some(secret::follow(cluster.client.clone(), &name, cluster.patience))
            }
        };
        let tokens = match plan.token_audience {
            None => None,
            Some(audience) => {
                let cluster = cluster_for("kubernetes")?;
                Some(ClusterTokens::new(
                    cluster.client.clone(),
                    &audience,
                    &cluster.executions_namespace,
                    cluster.patience,
                ))
            }
        };
        if plan.anonymous {
            tracing::info!(
                "whoever shows no credential may run programs, known by address (--auth anonymous)"
            );
        }
        Ok(Self {
            api_keys,
            cluster: tokens,
            oidc: plan.oidc.map(Oidc::start).transpose()?,
            proxy: plan.proxy,
            anonymous: plan.anonymous,
            trusted_proxies: plan.trusted_proxies,
            admins: plan.admins,
        })
    }

    /// Lets everybody in, known by address: what local mode does unless told otherwise.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            api_keys: None,
            cluster: None,
            oidc: None,
            proxy: None,
            anonymous: true,
            trusted_proxies: TrustedProxies::default(),
            admins: BTreeSet::new(),
        }
    }

    /// The address that a request came from, behind listed proxies.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.trusted_proxies.client(peer, headers)
    }

    /// Who asks, by a request's headers and the address that it came from.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn identify(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Identity, Refusal> {
        let named = match &self.proxy {
            Some(proxy) => proxy.identify(peer, headers)?,
            None => None,
        };
        let mut identity = match (bearer::token(headers)?, named) {
            // Whichever was taken, the other would be ignored without anybody noticing.
            (Some(_), Some(_)) => {
                let text = "send either Authorization or the proxy's user header, not both";
                return Err(Refusal::Malformed(text));
            }
            (Some(token), None) => self.of_token(token).await?,
            (None, Some(identity)) => identity,
            (None, None) if self.anonymous => {
                // Not by name: an address is nobody's for good.
                return Ok(anonymous::identity(self.client(peer, headers)));
            }
            (None, None) => return Err(Refusal::Missing),
        };
        identity.is_admin |= self.admins.contains(&identity.user);
        Ok(identity)
    }

    /// Whose token this is. Each form goes to one way only, so that what is not good there is not tried
    /// elsewhere.
    async fn of_token(&self, token: &str) -> Result<Identity, Refusal> {
        if token.starts_with(PREFIX) {
            let keys = self.api_keys.as_ref();
            return keys
                .ok_or(Refusal::Invalid("API keys are not accepted here"))?
                .identify(token);
        }
        match (&self.oidc, &self.cluster) {
            (Some(oidc), Some(cluster)) => match oidc.claims_to_be_issuer_of(token) {
                true => oidc.identify(token).await,
                false => cluster.identify(token).await,
            },
            (Some(oidc), None) => oidc.identify(token).await,
            (None, Some(cluster)) => cluster.identify(token).await,
            (None, None) if self.api_keys.is_some() => Err(Refusal::Invalid("it is no API key")),
            (None, None) => Err(Refusal::Invalid(
                "no credentials are accepted here; leave Authorization out",
            )),
        }
    }

    /// Whether a request has to show a credential.
    #[must_use]
    pub fn credential(&self) -> Credential {
        let takes_tokens = self.api_keys.is_some() || self.cluster.is_some() || self.oidc.is_some();
        match (takes_tokens, self.anonymous || self.proxy.is_some()) {
            (true, false) => Credential::Required,
            (true, true) => Credential::Optional,
            (false, _) => Credential::Unwanted,
        }
    }

    /// Whether callers can be identified at present; otherwise a sentence that says why not.
    ///
    /// # Errors
    /// That sentence.
    pub fn ready(&self) -> Result<(), String> {
        match &self.api_keys {
            Some(keys) if !keys.are_known() => Err("the API keys were not read yet".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::State;
    use axum::http::{StatusCode, header};
    use axum::routing::post;
    use axum::{Json, Router};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::Via;
    use crate::settings::Settings;

    const ISSUER: &str = "http://127.0.0.1:1";

    /// A cluster that knows every token, as web's, and counts how often it was asked.
    fn cluster(asked: &Arc<AtomicUsize>) -> ClusterAccess {
        async fn token(
            State(asked): State<Arc<AtomicUsize>>,
            Json(mut review): Json<Value>,
        ) -> (StatusCode, Json<Value>) {
            asked.fetch_add(1, Ordering::SeqCst);
            review["status"] =
                json!({"authenticated": true, "audiences": ["codeexec"], "user": {"username": "web"}});
            (StatusCode::CREATED, Json(review))
        }
        async fn access(Json(mut review): Json<Value>) -> (StatusCode, Json<Value>) {
            let verb = &review["spec"]["resourceAttributes"]["verb"];
            review["status"] = json!({"allowed": verb == "create"});
            (StatusCode::CREATED, Json(review))
        }
        let accesses = "/apis/authorization.k8s.io/v1/namespaces/executions/localsubjectaccessreviews";
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(token))
            .route(accesses, post(access))
            .with_state(asked.clone());
        ClusterAccess {
            client: Client::new(router, "codeexec"),
            executions_namespace: "executions".to_owned(),
            patience: Duration::from_secs(5),
        }
    }

    async fn authenticator(flags: &[&str], asked: &Arc<AtomicUsize>) -> Authenticator {
        let settings = Settings::parse_from([&["codeexec-api"], flags].concat());
        let plan = settings.auth.plan(settings.backend).unwrap();
        Authenticator::start(plan, Some(cluster(asked))).await.unwrap()
    }

    async fn identify(authenticator: &Authenticator, token: &str) -> Result<Identity, Refusal> {
        let value = format!("Bearer {token}").parse().unwrap();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        authenticator
            .identify("203.0.113.9".parse().unwrap(), &headers)
            .await
    }

    fn jwt(issuer: &str) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "ES256", "kid": "k1"}));
        format!(
            "{header}.{}.c2lnbmF0dXJl",
            part(json!({"iss": issuer, "aud": "codeexec"}))
        )
    }

    #[tokio::test]
    async fn each_token_is_shown_to_whom_it_belongs_and_to_nobody_else() {
        let asked = Arc::default();
        let flags = [
            "--auth",
            "kubernetes,oidc",
            "--oidc-issuer",
            ISSUER,
            "--oidc-audience",
            "codeexec",
        ];
        let both = authenticator(&flags, &asked).await;
        // The issuer is away; the cluster, which would take it, never sees it.
        assert_eq!(identify(&both, &jwt(ISSUER)).await, Err(Refusal::Unavailable));
        assert!(matches!(
            identify(&both, "cex_key").await,
            Err(Refusal::Invalid(_))
        ));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        for token in [&jwt("https://kubernetes.default.svc"), "opaque"] {
            assert_eq!(
                identify(&both, token).await,
                Ok(Identity::new("web", Via::Kubernetes))
            );
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn administrators_can_be_named_whatever_they_came_by() {
        let asked = Arc::default();
        for (admins, is_admin) in [("web,oidc:alice", true), ("webmaster", false)] {
            let flags = ["--auth", "kubernetes", "--admins", admins];
            let authenticator = authenticator(&flags, &asked).await;
            assert_eq!(
                identify(&authenticator, "opaque").await.unwrap().is_admin,
                is_admin
            );
        }
    }
}
