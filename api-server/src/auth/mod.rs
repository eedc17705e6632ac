//! Who asks: from a request's headers and its peer's address to an [`Identity`].
//!
//! ```text
//!   middleware ──▶ Authenticator
//!                    ├─ bearer token ─▶ api_keys     hashes in a Secret or a file
//!                    │                ▶ oidc         a JWT of the issuer, checked here
//!                    │                ▶ kubernetes   any other token, reviewed by the cluster
//!                    ├─ user header  ─▶ proxy        of a listed proxy only
//!                    └─ neither      ─▶ anonymous    by address
//! ```
//!
//! Each way can be switched on by itself. A credential that is there but not good is refused: nobody becomes
//! anonymous by it.

pub mod anonymous;
pub mod api_keys;
pub mod authenticator;
pub mod bearer;
pub mod kubernetes;
pub mod middleware;
pub mod network;
pub mod oidc;
pub mod proxy;
pub mod refusal;
pub mod settings;
pub mod user;

pub use self::authenticator::Authenticator;
pub use self::refusal::Refusal;

use clap::ValueEnum;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that executions, limits and the log know them by; `spec.user` of what they run.
    pub user: String,
    /// Whether they may read what others ran.
    pub is_admin: bool,
    /// What they may do in place of the settings' defaults.
    pub limits: UserLimits,
    /// How they were identified.
    pub via: Via,
}

impl Identity {
    /// Somebody with the default limits.
    #[must_use]
    pub fn new(user: impl Into<String>, via: Via) -> Self {
        Self {
            user: user.into(),
            is_admin: false,
            limits: UserLimits::default(),
            via,
        }
    }

    /// Whether they may read an execution of `owner`. To whom it is not theirs it must look as if it did not
    /// exist (404), so that names of executions can't be tried out.
    #[must_use]
    pub fn may_read(&self, owner: &str) -> bool {
        self.is_admin || self.user == owner
    }
}

/// Limits of one user. `None` means the settings' default, 0 no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Executions a minute.
    pub per_minute: Option<u32>,
    /// Executions at once.
    pub concurrent: Option<u32>,
}

/// A way of identifying who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Via {
    /// A key of ours, as a bearer token
    ApiKeys,
    /// A token of the cluster, such as a ServiceAccount's, as a bearer token
    Kubernetes,
    /// A token of an OpenID Connect issuer, as a bearer token
    Oidc,
    /// A header in which a listed proxy names its user
    Proxy,
    /// The address, for whoever shows nothing
    Anonymous,
}

impl Via {
    /// Its name in the setting `--auth` and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKeys => "api-keys",
            Self::Kubernetes => "kubernetes",
            Self::Oidc => "oidc",
            Self::Proxy => "proxy",
            Self::Anonymous => "anonymous",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_for_their_owner_and_for_administrators() {
        let alice = Identity::new("alice", Via::ApiKeys);
        assert!(alice.may_read("alice"));
        assert!(!alice.may_read("bob"));
        assert!(!alice.may_read("alice2"));
        let admin = Identity {
            is_admin: true,
            ..Identity::new("root", Via::Kubernetes)
        };
        assert!(admin.may_read("bob"));
    }

    #[test]
    fn every_way_has_the_name_of_its_setting() {
        for way in Via::value_variants() {
            let value = way.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(value.as_deref(), Some(way.name()));
        }
    }
}
