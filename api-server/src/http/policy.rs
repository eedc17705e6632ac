//! What is done about a program that says what the policy names.

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
