//! Which ways are on, and what each of them needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use axum::http::{HeaderName, header};
use clap::Args;
use codeexec_execution::setting::{not_blank, object_name};

use super::api_keys::KeySource;
use super::network::{FORWARDED_FOR, Network, TrustedProxies};
use super::oidc::{OidcSettings, SigningAlgorithm, Url};
use super::proxy::UserHeader;
use super::{Via, user};
use crate::settings::BackendKind;

/// Flags and variables about who asks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who asks")]
pub struct AuthSettings {
    /// How callers may be identified, separated by commas [default: api-keys, with the local backend
    /// anonymous]
    #[arg(
        long,
        env = "CODEEXEC_AUTH",
        value_enum,
        value_name = "WAYS",
        value_delimiter = ','
    )]
    pub auth: Vec<Via>,

    /// Users who may read what others ran, separated by commas
    #[arg(long, env = "CODEEXEC_ADMINS", value_name = "USERS", value_delimiter = ',', value_parser = admin)]
    pub admins: Vec<String>,

    /// Addresses and ranges of proxies whose headers are believed, separated by commas
    #[arg(
        long,
        env = "CODEEXEC_TRUSTED_PROXIES",
        value_name = "RANGES",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<Network>,

    /// api-keys: the Secret with the keys' hashes, in the API server's own namespace
    #[arg(
        long,
        env = "CODEEXEC_API_KEYS_SECRET",
        value_name = "NAME",
        default_value = "codeexec-api-keys",
        value_parser = object_name
    )]
    pub api_keys_secret: String,

    /// api-keys: a file with the keys' hashes, in place of the Secret
    #[arg(long, env = "CODEEXEC_API_KEYS_FILE", value_name = "PATH")]
    pub api_keys_file: Option<PathBuf>,

    /// kubernetes: the audience that tokens must be made for
    #[arg(
        long,
        env = "CODEEXEC_TOKEN_AUDIENCE",
        value_name = "AUDIENCE",
        default_value = "codeexec",
        value_parser = not_blank
    )]
    pub token_audience: String,

    /// proxy: the header in which a listed proxy names its user
    #[arg(
        long,
        env = "CODEEXEC_PROXY_USER_HEADER",
        value_name = "NAME",
        default_value = "x-codeexec-user",
        value_parser = user_header
    )]
    pub proxy_user_header: HeaderName,

    /// oidc: the issuer of the tokens, an https:// URL exactly as in their claim iss
    #[arg(long, env = "CODEEXEC_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: Option<Url>,

    /// oidc: what must stand in the tokens' claim aud
    #[arg(long, env = "CODEEXEC_OIDC_AUDIENCE", value_name = "AUDIENCE", value_parser = not_blank)]
    pub oidc_audience: Option<String>,

    /// oidc: where the issuer's keys are [default: where its own description says]
    #[arg(long, env = "CODEEXEC_OIDC_JWKS_URL", value_name = "URL")]
    pub oidc_jwks_url: Option<Url>,

    /// oidc: accepted signatures, separated by commas
    #[arg(
        long,
        env = "CODEEXEC_OIDC_ALGORITHMS",
        value_enum,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "RS256,ES256,EdDSA"
    )]
    pub oidc_algorithms: Vec<SigningAlgorithm>,

    /// oidc: the claim that is the user's name
    #[arg(
        long,
        env = "CODEEXEC_OIDC_USER_CLAIM",
        value_name = "CLAIM",
        default_value = "sub",
        value_parser = not_blank
    )]
    pub oidc_user_claim: String,

    /// oidc: what is put before the user's name, so that it can be no other user's
    #[arg(
        long,
        env = "CODEEXEC_OIDC_USER_PREFIX",
        value_name = "TEXT",
        default_value = "oidc:"
    )]
    pub oidc_user_prefix: String,

    /// oidc: a file with the authorities of the issuer's certificate, PEM [default: Mozilla's list]
    #[arg(long, env = "CODEEXEC_OIDC_CA_FILE", value_name = "PATH")]
    pub oidc_ca_file: Option<PathBuf>,

    /// oidc: how far the issuer's clock may be off, in seconds
    #[arg(long, env = "CODEEXEC_OIDC_LEEWAY_SECONDS", value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u64).range(0..=300))]
    pub oidc_leeway_seconds: u64,
}

/// A combination of settings that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthSettingsError {
    /// A way lacks something.
    #[error("--auth names {}, which needs {needs}", .way.name())]
    Needs {
        /// The way.
        way: Via,
        /// What it needs.
        needs: &'static str,
    },
    /// Something is set that nothing uses, so that it would seem to protect and does not.
    #[error("{setting} is set, but --auth does not name {}", .way.name())]
    Unused {
        /// The setting.
        setting: &'static str,
        /// The way that it is for.
        way: Via,
    },
}

/// Settings that make sense together.
#[derive(Clone, Debug)]
pub struct AuthPlan {
    /// Where the keys' hashes come from.
    pub api_keys: Option<KeySource>,
    /// The audience of the cluster's tokens.
    pub token_audience: Option<String>,
    /// The issuer.
    pub oidc: Option<OidcSettings>,
    /// The proxies' header.
    pub proxy: Option<UserHeader>,
    /// Whether whoever shows nothing is let in.
    pub anonymous: bool,
    /// Whose headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Who may read everybody's.
    pub admins: BTreeSet<String>,
}

impl AuthSettings {
    /// What the settings come to with this backend.
    ///
    /// # Errors
    /// When they make no sense together.
    pub fn plan(&self, backend: BackendKind) -> Result<AuthPlan, AuthSettingsError> {
        let default = match backend {
            BackendKind::Kubernetes => Via::ApiKeys,
            BackendKind::Local => Via::Anonymous,
        };
        let ways = if self.auth.is_empty() {
            &[default][..]
        } else {
            &self.auth
        };
        let is_on = |way| ways.contains(&way);
        let unused = [
            ("--api-keys-file", Via::ApiKeys, self.api_keys_file.is_some()),
            ("--oidc-issuer", Via::Oidc, self.oidc_issuer.is_some()),
            ("--oidc-audience", Via::Oidc, self.oidc_audience.is_some()),
            ("--oidc-jwks-url", Via::Oidc, self.oidc_jwks_url.is_some()),
            ("--oidc-ca-file", Via::Oidc, self.oidc_ca_file.is_some()),
        ];
        if let Some((setting, way, _)) = unused
            .into_iter()
            .find(|(_, way, is_set)| *is_set && !is_on(*way))
        {
            return Err(AuthSettingsError::Unused { setting, way });
        }
        let needs = |way, needs| AuthSettingsError::Needs { way, needs };
        let api_keys = match (is_on(Via::ApiKeys), &self.api_keys_file, backend) {
            (false, ..) => None,
            (true, Some(path), _) => Some(KeySource::File(path.clone())),
            (true, None, BackendKind::Kubernetes) => Some(KeySource::Secret(self.api_keys_secret.clone())),
            (true, None, BackendKind::Local) => return Err(needs(Via::ApiKeys, "--api-keys-file")),
        };
        if is_on(Via::Kubernetes) && backend == BackendKind::Local {
            return Err(needs(Via::Kubernetes, "--backend kubernetes"));
        }
        if is_on(Via::Proxy) && self.trusted_proxies.is_empty() {
            return Err(needs(Via::Proxy, "--trusted-proxies"));
        }
        let trusted_proxies = TrustedProxies::new(self.trusted_proxies.clone());
        Ok(AuthPlan {
            api_keys,
            token_audience: is_on(Via::Kubernetes).then(|| self.token_audience.clone()),
            oidc: is_on(Via::Oidc).then(|| self.oidc()).transpose()?,
            proxy: is_on(Via::Proxy)
                .then(|| UserHeader::new(self.proxy_user_header.clone(), trusted_proxies.clone())),
            anonymous: is_on(Via::Anonymous),
            trusted_proxies,
            admins: self.admins.iter().cloned().collect(),
        })
    }

    fn oidc(&self) -> Result<OidcSettings, AuthSettingsError> {
        let needs = |needs| AuthSettingsError::Needs {
            way: Via::Oidc,
            needs,
        };
        Ok(OidcSettings {
            issuer: self.oidc_issuer.clone().ok_or(needs("--oidc-issuer"))?,
            // Without one, a token made for any other service of the issuer would do.
            audience: self.oidc_audience.clone().ok_or(needs("--oidc-audience"))?,
            jwks_url: self.oidc_jwks_url.clone(),
            algorithms: self.oidc_algorithms.clone(),
            user_claim: self.oidc_user_claim.clone(),
            user_prefix: self.oidc_user_prefix.clone(),
            ca_file: self.oidc_ca_file.clone(),
            leeway_seconds: self.oidc_leeway_seconds,
        })
    }
}

fn user_header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text.parse().map_err(|_| "it is no name of a header".to_owned())?;
    if name == header::AUTHORIZATION || name == FORWARDED_FOR {
        return Err("this header means something else".to_owned());
    }
    Ok(name)
}

fn admin(text: &str) -> Result<String, String> {
    // The cluster's names are the widest.
    user::check(text, Via::Kubernetes).map_err(|rule| format!("a user {rule}"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::Settings;

    fn plan(flags: &[&str]) -> Result<AuthPlan, String> {
        let settings = Settings::try_parse_from([&["codeexec-api"], flags].concat())
            .map_err(|error| error.to_string())?;
        settings
            .auth
            .plan(settings.backend)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_wants_keys_and_a_laptop_nothing() {
        let cluster = plan(&[]).unwrap();
        assert_eq!(
            cluster.api_keys,
            Some(KeySource::Secret("codeexec-api-keys".to_owned()))
        );
        assert!(!cluster.anonymous);
        let local = plan(&["--backend", "local"]).unwrap();
        assert!(local.anonymous && local.api_keys.is_none());
    }

    #[test]
    fn every_way_can_be_switched_on_beside_the_others() {
        let plan = plan(&[
            "--auth",
            "api-keys,kubernetes,oidc,proxy,anonymous",
            "--trusted-proxies",
            "10.0.0.0/8,fd00::1",
            "--oidc-issuer",
            "https://login.example.com",
            "--oidc-audience",
            "codeexec",
            "--admins",
            "alice,system:serviceaccount:portal:web",
        ])
        .unwrap();
        assert!(plan.api_keys.is_some() && plan.token_audience.is_some() && plan.proxy.is_some());
        assert!(plan.oidc.is_some() && plan.anonymous && plan.admins.contains("alice"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (flags, message) in [
            (
                &["--auth", "oidc"][..],
                "--auth names oidc, which needs --oidc-issuer",
            ),
            (
                &["--auth", "oidc", "--oidc-issuer", "https://a.example"],
                "--auth names oidc, which needs --oidc-audience",
            ),
            (
                &["--auth", "proxy"],
                "--auth names proxy, which needs --trusted-proxies",
            ),
            (
                &["--auth", "api-keys", "--backend", "local"],
                "--auth names api-keys, which needs --api-keys-file",
            ),
            (
                &["--auth", "kubernetes", "--backend", "local"],
                "--auth names kubernetes, which needs --backend kubernetes",
            ),
            (
                &["--oidc-issuer", "https://a.example"],
                "--oidc-issuer is set, but --auth does not name oidc",
            ),
            (
                &["--backend", "local", "--api-keys-file", "keys.json"],
                "--api-keys-file is set, but --auth does not name api-keys",
            ),
        ] {
            assert_eq!(plan(flags).unwrap_err(), message);
        }
    }

    #[test]
    fn a_wrong_value_is_told_with_its_setting() {
        for (flag, value) in [
            ("--auth", "password"),
            ("--admins", "anonymous"),
            ("--trusted-proxies", "10.0.0.0/33"),
            ("--trusted-proxies", ""),
            ("--proxy-user-header", "x user"),
            ("--proxy-user-header", "Authorization"),
            ("--oidc-issuer", "http://login.example.com"),
            ("--oidc-algorithms", "none"),
            ("--oidc-algorithms", "HS256"),
            ("--oidc-leeway-seconds", "3600"),
        ] {
            let error = plan(&[flag, value]).unwrap_err();
            assert!(error.contains(flag), "{flag} {value}: {error}");
        }
    }
}
