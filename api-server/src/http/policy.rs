//! What is done about a program that says what the policy names.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use codeexec_policy::{Finding, Policy, check};

use super::error::ApiError;

/// What the policy would not allow in a program that runs all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(Vec<Finding>);

/// Looks at a program that keeps its bounds.
///
/// # Errors
/// The answer where it is refused: the sentence of what stands first in it.
pub fn screen(policy: Policy, code: &str) -> Result<Warnings, ApiError> {
    let findings = match policy {
        Policy::Off => Vec::new(),
        Policy::Deny | Policy::Warn => check(code),
    };
    match findings.first() {
        Some(first) if policy == Policy::Deny => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "policy_violation",
            first.to_string(),
        )),
        _ => Ok(Warnings(findings)),
    }
}

impl Warnings {
    /// A sentence for each, for whoever sent the program.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// The constructs, each once, separated by commas; nothing where there is none.
    #[must_use]
    pub fn constructs(&self) -> Option<String> {
        let constructs: BTreeSet<_> = self.0.iter().map(|finding| finding.construct).collect();
        let words: Vec<_> = constructs.iter().map(|construct| construct.as_str()).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Writes a line for each. Nothing of the program stands in it but the construct that the policy names.
    pub fn log(&self, id: &str) {
        for Finding {
            construct,
            line,
            column,
        } in &self.0
        {
            tracing::warn!(id, %construct, line, column, "the policy would not allow this program");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_construct_is_noted_once() {
        let constructs = |code| screen(Policy::Warn, code).map(|warnings| warnings.constructs());
        let noted = "import os, eval(".to_owned();
        assert_eq!(constructs("import os\nimport os\neval('1')"), Ok(Some(noted)));
        assert_eq!(constructs("print(1)"), Ok(None));
    }
}
