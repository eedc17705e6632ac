use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use codeexec_crds::{CodeExecutionSpec, bounds};

/// A field of a spec that breaks a bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Violation {
    /// The field, such as `files[0].path`.
    pub field: String,
    /// What it must be, such as `must not be blank`.
    pub rule: String,
}

impl Violation {
    fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
        }
    }
}

/// Checks every bound of a spec; the schema says the same to those who write the resource by hand.
///
/// # Errors
/// The first violation, in the order of the fields.
pub fn validate(spec: &CodeExecutionSpec) -> Result<(), Violation> {
    if spec.code.trim().is_empty() {
        return Err(Violation::new("code", "must not be blank"));
    }
    let chars = spec.code.chars().count();
    if chars > bounds::CODE_CHARS {
        return Err(Violation::new(
            "code",
            format!("must be at most {} characters, not {chars}", bounds::CODE_CHARS),
        ));
    }
    if !bounds::TIMEOUT_SECONDS.contains(&spec.timeout_seconds) {
        let (min, max) = (bounds::TIMEOUT_SECONDS.start(), bounds::TIMEOUT_SECONDS.end());
        return Err(Violation::new(
            "timeout",
            format!(
                "must be a whole number of seconds from {min} to {max}, not {}",
                spec.timeout_seconds
            ),
        ));
    }
    for (field, name) in [("user", &spec.user), ("pool", &spec.pool)] {
        if name.is_empty() || name.chars().count() > bounds::NAME_CHARS {
            return Err(Violation::new(
                field,
                format!("must be 1 to {} characters long", bounds::NAME_CHARS),
            ));
        }
    }
    if let Some(stdin) = &spec.stdin {
        at_most_bytes("stdin", stdin.len(), bounds::STDIN_BYTES)?;
    }
    validate_args(spec)?;
    validate_env(spec)?;
    validate_files(spec)?;
    if spec.ttl_seconds_after_finished < bounds::TTL_SECONDS_MIN {
        return Err(Violation::new(
            "ttlSecondsAfterFinished",
            format!("must be at least {}", bounds::TTL_SECONDS_MIN),
        ));
    }
    Ok(())
}

fn validate_args(spec: &CodeExecutionSpec) -> Result<(), Violation> {
    let args = spec.args.as_deref().unwrap_or_default();
    at_most_items("args", args.len(), bounds::LIST_ITEMS)?;
    for (at, arg) in args.iter().enumerate() {
        no_nul(&format!("args[{at}]"), arg)?;
    }
    at_most_bytes("args", args.iter().map(String::len).sum(), bounds::LIST_BYTES)
}

fn validate_env(spec: &CodeExecutionSpec) -> Result<(), Violation> {
    let env = spec.env.as_deref().unwrap_or_default();
    at_most_items("env", env.len(), bounds::LIST_ITEMS)?;
    let mut names = HashSet::new();
    for variable in env {
        let name = &variable.name;
        let mut chars = name.chars();
        let starts_well = chars
            .next()
            .is_some_and(|first| first == '_' || first.is_ascii_alphabetic());
        if !starts_well
            || !chars.all(|rest| rest == '_' || rest.is_ascii_alphanumeric())
            || name.len() > bounds::VARIABLE_BYTES
        {
            return Err(Violation::new(
                // Its beginning tells which one; all of it may be megabytes.
                format!(
                    "env.{}",
                    name.chars()
                        .take(64)
                        .flat_map(char::escape_debug)
                        .collect::<String>()
                ),
                "must have a name of letters, digits and _ that does not begin with a digit, at most 256 long",
            ));
        }
        if !names.insert(name) {
            return Err(Violation::new(format!("env.{name}"), "must be given once"));
        }
        no_nul(&format!("env.{name}"), &variable.value)?;
    }
    let bytes = env
        .iter()
        .map(|variable| variable.name.len() + variable.value.len())
        .sum();
    at_most_bytes("env", bytes, bounds::LIST_BYTES)
}

fn validate_files(spec: &CodeExecutionSpec) -> Result<(), Violation> {
    let files = spec.files.as_deref().unwrap_or_default();
    at_most_items("files", files.len(), bounds::FILES)?;
    let encoded = files.iter().map(|file| file.content.len()).sum::<usize>();
    if encoded > bounds::FILES_ENCODED_BYTES {
        let max = bounds::FILES_ENCODED_BYTES;
        return Err(Violation::new(
            "files",
            format!("must be at most {max} bytes of base64 in all"),
        ));
    }
    let mut paths = HashSet::new();
    for (at, file) in files.iter().enumerate() {
        let field = format!("files[{at}].path");
        no_nul(&field, &file.path)?;
        if file.path.is_empty() || file.path.len() > bounds::PATH_BYTES {
            return Err(Violation::new(
                field,
                format!("must be 1 to {} bytes long", bounds::PATH_BYTES),
            ));
        }
        if file.path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Violation::new(field, "must stay below the work directory"));
        }
        if !paths.insert(file.path.as_str()) {
            return Err(Violation::new(field, "must be given once"));
        }
        if STANDARD.decode(&file.content).is_err() {
            return Err(Violation::new(format!("files[{at}].content"), "must be base64"));
        }
    }
    for (at, file) in files.iter().enumerate() {
        let is_folder_of_another = file
            .path
            .match_indices('/')
            .any(|(end, _)| paths.contains(&file.path[..end]));
        if is_folder_of_another {
            return Err(Violation::new(
                format!("files[{at}].path"),
                "must not stand below another file",
            ));
        }
    }
    Ok(())
}

fn at_most_items(field: &str, items: usize, max: usize) -> Result<(), Violation> {
    if items > max {
        return Err(Violation::new(
            field,
            format!("must have at most {max} items, not {items}"),
        ));
    }
    Ok(())
}

fn at_most_bytes(field: &str, bytes: usize, max: usize) -> Result<(), Violation> {
    if bytes > max {
        return Err(Violation::new(
            field,
            format!("must be at most {max} bytes in all, not {bytes}"),
        ));
    }
    Ok(())
}

fn no_nul(field: &str, text: &str) -> Result<(), Violation> {
    if text.contains('\0') {
        return Err(Violation::new(field, "must not contain a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use codeexec_crds::{EnvVar, InputFile};

    use super::*;

    fn refusal(change: impl FnOnce(&mut CodeExecutionSpec)) -> String {
        let mut spec = CodeExecutionSpec::python("print(1)");
        change(&mut spec);
        validate(&spec).map_or_else(|violation| violation.to_string(), |()| "accepted".to_owned())
    }

    fn file(path: &str) -> InputFile {
        InputFile {
            path: path.to_owned(),
            content: "aGk=".to_owned(),
        }
    }

    #[test]
    fn specs_at_their_bounds_are_accepted() {
        assert_eq!(refusal(|spec| spec.code = "é".repeat(10_000)), "accepted");
        assert_eq!(refusal(|spec| spec.timeout_seconds = 1), "accepted");
        assert_eq!(refusal(|spec| spec.stdin = Some("x".repeat(65_536))), "accepted");
        assert_eq!(
            refusal(|spec| spec.args = Some(vec!["x".repeat(512); 64])),
            "accepted"
        );
        assert_eq!(
            refusal(|spec| spec.files = Some(vec![file("a/b"), file("a/c")])),
            "accepted"
        );
    }

    #[test]
    fn each_broken_bound_names_its_field() {
        assert_eq!(refusal(|spec| spec.code = " \n".into()), "code must not be blank");
        assert_eq!(
            refusal(|spec| spec.code = "x".repeat(10_001)),
            "code must be at most 10000 characters, not 10001"
        );
        assert!(refusal(|spec| spec.timeout_seconds = 0).starts_with("timeout must be"));
        assert!(refusal(|spec| spec.timeout_seconds = 31).starts_with("timeout must be"));
        assert!(refusal(|spec| spec.stdin = Some("é".repeat(32_769))).starts_with("stdin must be"));
        assert!(refusal(|spec| spec.args = Some(vec![String::new(); 65])).starts_with("args must have"));
        assert!(refusal(|spec| spec.args = Some(vec!["a\0".into()])).starts_with("args[0] must not"));
        let env = |name: &str| {
            Some(vec![EnvVar {
                name: name.to_owned(),
                value: String::new(),
            }])
        };
        assert!(refusal(|spec| spec.env = env("1A")).starts_with("env.1A must have"));
        for path in ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/"] {
            assert_eq!(
                refusal(|spec| spec.files = Some(vec![file(path)])),
                "files[0].path must stay below the work directory",
                "{path}"
            );
        }
        assert!(refusal(|spec| spec.files = Some(vec![file("a"), file("a/b")])).starts_with("files[1].path"));
        let bad = InputFile {
            path: "a".into(),
            content: "?".into(),
        };
        assert_eq!(
            refusal(|spec| spec.files = Some(vec![bad])),
            "files[0].content must be base64"
        );
    }
}
