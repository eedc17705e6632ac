//! Tokens of an OpenID Connect issuer, checked here with the issuer's public keys.

mod fetch;
mod jwks;
mod signature;

use std::path::PathBuf;

use clap::ValueEnum;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

pub use self::fetch::{FetchError, Url};
use self::jwks::{Jwks, NoKey};
use super::{Identity, Refusal, Via, user};

/// Signatures that can be accepted: only those with a public key, so that neither `none` nor a secret that
/// everybody knows (the public key itself, taken for a secret) can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum SigningAlgorithm {
    /// RSA, PKCS#1
    RS256,
    /// RSA, PKCS#1
    RS384,
    /// RSA, PKCS#1
    RS512,
    /// RSA, PSS
    PS256,
    /// RSA, PSS
    PS384,
    /// RSA, PSS
    PS512,
    /// The curve P-256
    ES256,
    /// The curve P-384
    ES384,
    /// Ed25519
    EdDSA,
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::RS256 => Self::RS256,
            SigningAlgorithm::RS384 => Self::RS384,
            SigningAlgorithm::RS512 => Self::RS512,
            SigningAlgorithm::PS256 => Self::PS256,
            SigningAlgorithm::PS384 => Self::PS384,
            SigningAlgorithm::PS512 => Self::PS512,
            SigningAlgorithm::ES256 => Self::ES256,
            SigningAlgorithm::ES384 => Self::ES384,
            SigningAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Whose tokens are taken, and what of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// `iss` of the tokens, and where the issuer describes itself.
    pub issuer: Url,
    /// One of their `aud`.
    pub audience: String,
    /// Where the issuer's keys are; `None`: where its description says.
    pub jwks_url: Option<Url>,
    /// Accepted signatures.
    pub algorithms: Vec<SigningAlgorithm>,
    /// The claim that is the user's name.
    pub user_claim: String,
    /// What is put before it.
    pub user_prefix: String,
    /// Certificates of the authorities that the issuer's server is checked against; `None`: Mozilla's list.
    pub ca_file: Option<PathBuf>,
    /// How far the issuer's clock may be off, in seconds.
    pub leeway_seconds: u64,
}

/// Checks tokens of one issuer.
#[derive(Debug)]
pub struct Oidc {
    settings: OidcSettings,
    algorithms: Vec<Algorithm>,
    jwks: Jwks,
}

impl Oidc {
    /// Begins to fetch the issuer's keys. An issuer that does not answer is no error: its tokens are refused
    /// for the time being.
    ///
    /// # Errors
    /// When the file with the authorities can't be used.
    pub fn start(settings: OidcSettings) -> Result<Self, FetchError> {
        signature::install();
        let jwks = Jwks::start(
            settings.issuer.clone(),
            settings.jwks_url.clone(),
            settings.ca_file.as_deref(),
        )?;
        let algorithms = settings.algorithms.iter().copied().map(Algorithm::from).collect();
        Ok(Self {
            settings,
            algorithms,
            jwks,
        })
    }

    /// Whether a token says that it is of this issuer. It is not verified; this only tells to whom it has to
    /// be shown.
    #[must_use]
    pub fn claims_to_be_issuer_of(&self, token: &str) -> bool {
        let claims = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(token);
        let issuer = claims.ok().and_then(|token| token.claims.get("iss").cloned());
        issuer.is_some_and(|issuer| issuer == self.settings.issuer.as_str())
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// When anything about it is not as it must be, or the issuer's keys can't be had.
    pub async fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let header =
            decode_header(token).map_err(|_| Refusal::Invalid("it is no token that is known here"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Refusal::Invalid(
                "its signature is of a kind that is not accepted",
            ));
        }
        let key = self.jwks.key(header.kid.as_deref(), header.alg).await;
        let key = key.map_err(|error| match error {
            NoKey::Unknown => Refusal::Invalid("its issuer has no such key"),
            NoKey::Unavailable => Refusal::Unavailable,
        })?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[self.settings.issuer.as_str()]);
        validation.set_audience(&[&self.settings.audience]);
        // Those that are absent would not be checked.
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = self.settings.leeway_seconds;
        let token =
            decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| refused(&error))?;
        self.user(&token.claims)
    }

    fn user(&self, claims: &Map<String, Value>) -> Result<Identity, Refusal> {
        let claim = &self.settings.user_claim;
        let name = claims
            .get(claim)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .ok_or(Refusal::Invalid("the claim that names its user is missing"))?;
        // At some issuers anybody can write any address into a profile.
        let is_verified = claims
            .get("email_verified")
            .is_none_or(|verified| *verified == true);
        if claim == "email" && !is_verified {
            return Err(Refusal::Invalid("its user's e-mail address is not verified"));
        }
        let name = format!("{}{name}", self.settings.user_prefix);
        user::check(&name, Via::Oidc)
            .map_err(|_| Refusal::Invalid("its user's name is none that a user can have"))?;
        Ok(Identity::new(name, Via::Oidc))
    }
}

fn refused(error: &jsonwebtoken::errors::Error) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    Refusal::Invalid(match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::InvalidIssuer => "it is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => "it lacks exp, iss or aud",
        ErrorKind::InvalidSignature => "its signature is wrong",
        _ => "it is no token that is known here",
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests;
