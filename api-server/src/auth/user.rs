//! Names of users: which are possible, and which are kept for whom.

use codeexec_crds::bounds;

use super::Via;

/// What anonymous names begin with. The name alone is that of CodeExecutions applied by hand without a user.
pub const ANONYMOUS: &str = "anonymous";

/// What the cluster's own names begin with.
const SYSTEM: &str = "system:";

/// Checks a name that a key, a token or a proxy gave. Names mean the same whatever they came by, so those
/// that are not theirs to give are refused: `system:…` for all but the cluster, `anonymous…` for all.
///
/// # Errors
/// What it must be, without the name: it may hold anything.
pub fn check(name: &str, via: Via) -> Result<(), &'static str> {
    if name.is_empty() || name.chars().count() > bounds::NAME_CHARS {
        return Err("must be 1 to 253 characters long");
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err("must have no control characters, and no white space at its ends");
    }
    let rest = name.strip_prefix(ANONYMOUS);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
        return Err("must not be a name of anonymous users");
    }
    if via != Via::Kubernetes && name.starts_with(SYSTEM) {
        return Err("must not begin with system:, as the cluster's own names do");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_somebody_else_s_are_refused() {
        let account = "system:serviceaccount:portal:web";
        assert!(check(account, Via::Kubernetes).is_ok());
        for via in [Via::ApiKeys, Via::Oidc, Via::Proxy] {
            assert!(check(account, via).is_err());
            assert!(check("alice@example.com", via).is_ok());
            assert!(check("Zoë Ångström", via).is_ok());
            for anonymous in ["anonymous", "anonymous:10.0.0.1"] {
                assert!(check(anonymous, via).is_err());
            }
            assert!(check("anonymous-coward", via).is_ok());
        }
    }

    #[test]
    fn names_fit_into_a_spec_and_into_a_line_of_the_log() {
        for bad in ["", " ", " a", "a ", "a\nb", "a\0", "\u{85}", "a\u{9b}31m"] {
            assert!(check(bad, Via::Proxy).is_err(), "{bad:?}");
        }
        assert!(check(&"é".repeat(253), Via::Proxy).is_ok());
        assert!(check(&"é".repeat(254), Via::Proxy).is_err());
    }
}
