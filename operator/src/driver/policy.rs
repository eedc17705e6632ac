//! What is done about a program that says what the policy names, wherever its execution comes from. The API server has
//! looked at its own ones already, but nothing on an object proves that it came from there, and a second look costs less
//! than a millisecond for a program that somebody wrote.

use codeexec_policy::{Finding, Policy, check};
use tracing::warn;

/// The sentence with which a program is rejected; what it is only warned of goes to the log.
pub(super) fn refusal(policy: Policy, execution: &str, code: &str) -> Option<String> {
    match policy {
        Policy::Off => None,
        Policy::Deny => check(code).first().map(ToString::to_string),
        Policy::Warn => {
            for Finding {
                construct,
                line,
                column,
            } in check(code)
            {
                warn!(execution, %construct, line, column, "the policy would not allow this program");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deny_refuses() {
        let refused = |policy| refusal(policy, "e", "import json\nimport os");
        assert_eq!(
            refused(Policy::Deny).as_deref(),
            Some("the policy does not allow `import os` (line 2, column 1)")
        );
        assert_eq!((refused(Policy::Warn), refused(Policy::Off)), (None, None));
        assert_eq!(refusal(Policy::Deny, "e", "print('import os')"), None);
    }
}
