//! The issuer's public keys: fetched at the start, every few minutes, and when a token names one that is not
//! there.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::fetch::{FetchError, Fetcher, Url};

/// How often they are fetched: a key that the issuer takes back works for so long.
const REFRESH: Duration = Duration::from_secs(600);

/// Shortest time between two attempts. Tokens with made-up keys come as often as somebody likes.
const PAUSE: Duration = Duration::from_secs(10);

/// How old they may be while the issuer is away.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Keys that are looked at; issuers have two or three.
const MAX_KEYS: usize = 64;

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has none of this name and kind.
    Unknown,
    /// The issuer's keys can't be had.
    Unavailable,
}

/// A key that signatures can be verified with.
struct VerifyingKey {
    name: Option<String>,
    /// The only algorithm that it is for, where the issuer says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// All keys of one fetch.
struct Fetched {
    at: Instant,
    keys: Vec<VerifyingKey>,
}

impl Fetched {
    /// The key of that name. A token that names none gets the only one there is for its algorithm.
    fn find(&self, name: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| {
            let is_for_it = key.algorithm.is_none_or(|own| own == algorithm);
            let is_named = name.is_none() || key.name.as_deref() == name;
            is_for_it && is_named && key.key.family() == algorithm.family()
        });
        let found = fitting.next()?;
        match fitting.next() {
            Some(_) if name.is_none() => None,
            _ => Some(found.key.clone()),
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The keys, kept up to date for as long as this exists.
#[derive(Clone)]
pub struct Jwks(Arc<State>);

struct State {
    fetcher: Fetcher,
    issuer: Url,
    url: Option<Url>,
    fetched: RwLock<Option<Arc<Fetched>>>,
    /// When the last attempt began; held while one is under way, so that there is one at a time.
    attempt: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Jwks")
            .field("issuer", &self.0.issuer)
            .finish_non_exhaustive()
    }
}

impl Jwks {
    /// Begins to fetch them.
    ///
    /// # Errors
    /// When the file with the authorities can't be used.
    pub fn start(issuer: Url, url: Option<Url>, authorities: Option<&Path>) -> Result<Self, FetchError> {
        let state = Arc::new(State {
            fetcher: Fetcher::new(authorities)?,
            issuer,
            url,
            fetched: RwLock::default(),
            attempt: Mutex::default(),
        });
        let task = Arc::downgrade(&state);
        tokio::spawn(async move {
            while let Some(state) = task.upgrade() {
                let succeeded = state.refresh().await;
                drop(state);
                sleep(if succeeded { REFRESH } else { PAUSE }).await;
            }
        });
        Ok(Self(state))
    }

    /// The key for a token. One that is not there is fetched, at most once in a while for all tokens
    /// together.
    ///
    /// # Errors
    /// [`NoKey`].
    pub async fn key(&self, name: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, NoKey> {
        let find = || Some(self.0.current()?.find(name, algorithm));
        if let Some(Some(key)) = find() {
            return Ok(key);
        }
        self.0.refresh().await;
        find().ok_or(NoKey::Unavailable)?.ok_or(NoKey::Unknown)
    }

    /// As if the last attempt were long over.
    #[cfg(test)]
    pub async fn forget_attempts(&self) {
        *self.0.attempt.lock().await = None;
    }
}

impl State {
    fn current(&self) -> Option<Arc<Fetched>> {
        let fetched = self
            .fetched
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        fetched.filter(|fetched| fetched.at.elapsed() < MAX_AGE)
    }

    /// Fetches the keys, unless somebody just did. Says whether they are fresh.
    async fn refresh(&self) -> bool {
        let mut attempt = self.attempt.lock().await;
        if attempt.is_some_and(|begun| begun.elapsed() < PAUSE) {
            return self.current().is_some_and(|fetched| fetched.at.elapsed() < PAUSE);
        }
        *attempt = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                tracing::debug!(issuer = %self.issuer, keys = keys.len(), "the issuer's keys are fetched");
                let fetched = Fetched {
                    at: Instant::now(),
                    keys,
                };
                *self.fetched.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fetched));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the issuer's keys can't be fetched");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<VerifyingKey>, FetchError> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: KeySet = self.fetcher.json(&url).await?;
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(verifying_key)
            .collect();
        if keys.is_empty() {
            let problem = "it holds no key that signatures could be verified with";
            return Err(FetchError::Content(url.to_string(), problem.to_owned()));
        }
        Ok(keys)
    }

    /// Where the issuer says that its keys are.
    async fn discover(&self) -> Result<Url, FetchError> {
        let content = |error: &str| FetchError::Content(self.issuer.to_string(), error.to_owned());
        let url = self
            .issuer
            .below(".well-known/openid-configuration")
            .map_err(|error| content(&error.to_string()))?;
        let found: Discovery = self.fetcher.json(&url).await?;
        // Or else the description of another issuer could be put in place of this one's.
        if found.issuer != self.issuer.as_str() {
            return Err(FetchError::Content(
                url.to_string(),
                "it describes another issuer".to_owned(),
            ));
        }
        let keys = found.jwks_uri.parse();
        keys.map_err(|error| FetchError::Content(url.to_string(), format!("jwks_uri: {error}")))
    }
}

/// A key that is for signatures and public; issuers may list others beside it.
fn verifying_key(value: Value) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let is_for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let is_public = !matches!(
        jwk.algorithm,
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)
    );
    if !is_for_signatures || !is_public {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm {
        Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
        None => None,
    };
    Some(VerifyingKey {
        name: jwk.common.key_id.clone(),
        algorithm,
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}
