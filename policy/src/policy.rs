//! What is done about findings.

use std::fmt;
use std::str::FromStr;

/// What is done about a program in which something was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It is refused.
    #[default]
    Deny,
    /// It runs, and whoever asked is told.
    Warn,
    /// Nothing: programs are not looked at.
    Off,
}

/// A name that is none of `deny`, `warn` and `off`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no policy; those are deny, warn and off")]
pub struct UnknownPolicy(pub String);

impl Policy {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Deny, Self::Warn, Self::Off];

    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Warn => "warn",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_by_their_names_alone() {
        for policy in Policy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for wrong in ["", "Deny", "none", "deny "] {
            assert_eq!(wrong.parse::<Policy>(), Err(UnknownPolicy(wrong.to_owned())));
        }
        assert_eq!(Policy::default(), Policy::Deny);
    }
}
