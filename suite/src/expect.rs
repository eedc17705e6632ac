use std::fmt;

use codeexec_crds::Reason;
use serde::Deserialize;

use crate::{Observed, Program};

/// How much of a text a complaint shows.
const SHOWN_CHARS: usize = 300;

/// How a program ended, in the plan's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It exited with 0.
    Success,
    /// It ended otherwise.
    Error,
    /// It was killed at its timeout.
    Timeout,
    /// The request was answered before anything ran.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
        })
    }
}

/// What must be seen of a program. An empty list and a `None` ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// One of these.
    pub outcomes: Vec<Outcome>,
    /// One of these; where there is none, any that a program can cause.
    pub reasons: Vec<Reason>,
    /// One of these exit codes.
    pub exit: Vec<i32>,
    /// Ended by one of these signals.
    pub signal: Vec<i32>,
    /// The whole of its standard output.
    pub stdout: Option<String>,
    /// Parts of its standard output.
    pub stdout_has: Vec<String>,
    /// What is nowhere in its standard output.
    pub stdout_lacks: Vec<String>,
    /// Parts of its standard error.
    pub stderr_has: Vec<String>,
    /// Whether some of what it printed was cut.
    pub truncated: Option<bool>,
    /// Paths and types of all of its result files, in their order, such as `a.csv text/csv`.
    pub files: Option<Vec<String>>,
    /// Whether some of what it left was not taken.
    pub files_dropped: Option<bool>,
}

impl Expect {
    /// Success with exactly this on standard output.
    #[must_use]
    pub fn success_with(stdout: String) -> Self {
        Self {
            outcomes: vec![Outcome::Success],
            stdout: Some(stdout),
            ..Self::default()
        }
    }

    /// Whether it must never run.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.outcomes.contains(&Outcome::Refused)
    }
}

/// What is not as the program's expectation says, each a sentence with the field, what was wanted and what was
/// found. Empty when all is as it must be.
#[must_use]
pub fn complaints(program: &Program, observed: &Observed) -> Vec<String> {
    let expect = &program.expect;
    let mut all = Vec::new();
    if !expect.outcomes.contains(&observed.outcome) {
        let wanted = words(&expect.outcomes);
        all.push(format!("outcome: wanted {wanted}, found {}", told(observed)));
    }
    all.extend(wrong_reason(expect, observed));
    let mut number = |name: &str, wanted: &[i32], found: Option<i32>| {
        if !wanted.is_empty() && !found.is_some_and(|found| wanted.contains(&found)) {
            let found = found.map_or("none".to_owned(), |found| found.to_string());
            all.push(format!("{name}: wanted {}, found {found}", words(wanted)));
        }
    };
    number("exit code", &expect.exit, observed.exit_code);
    number("signal", &expect.signal, observed.signal);
    if let Some(wanted) = expect
        .stdout
        .as_ref()
        .filter(|wanted| **wanted != observed.stdout)
    {
        all.push(difference(wanted, &observed.stdout));
    }
    let missing = |name: &str, wanted: &[String], found: &str| {
        let is_missing = |text: &&String| !found.contains(text.as_str());
        let complaint =
            |text: &String| format!("{name}: wanted {} in it, found {}", quoted(text), quoted(found));
        wanted
            .iter()
            .filter(is_missing)
            .map(complaint)
            .collect::<Vec<_>>()
    };
    all.extend(missing("stdout", &expect.stdout_has, &observed.stdout));
    all.extend(missing("stderr", &expect.stderr_has, &observed.stderr));
    for text in &expect.stdout_lacks {
        if let Some(at) = observed.stdout.find(text.as_str()) {
            let found = quoted(&observed.stdout[at..]);
            all.push(format!("stdout: wanted no {} in it, found {found}", quoted(text)));
        }
    }
    if expect
        .truncated
        .is_some_and(|wanted| wanted != observed.truncated)
    {
        all.push(format!("truncated: found {}", observed.truncated));
    }
    if let Some(wanted) = &expect.files
        && *wanted != observed.files
    {
        all.push(format!("files: wanted {wanted:?}, found {:?}", observed.files));
    }
    if expect
        .files_dropped
        .is_some_and(|wanted| wanted != observed.files_dropped)
    {
        all.push(format!("files_dropped: found {}", observed.files_dropped));
    }
    all
}

fn wrong_reason(expect: &Expect, observed: &Observed) -> Option<String> {
    if observed.outcome == Outcome::Refused {
        return None;
    }
    let found = observed.reason.map_or("none", Reason::as_str);
    if expect.reasons.is_empty() {
        let is_the_program_s_own = matches!(
            observed.reason,
            Some(
                Reason::Completed
                    | Reason::NonZeroExit
                    | Reason::Signaled
                    | Reason::DeadlineExceeded
                    | Reason::OutOfMemory
            )
        );
        return (!is_the_program_s_own).then(|| {
            let error = quoted(observed.error.as_deref().unwrap_or_default());
            format!("reason: wanted one that a program can cause, found {found}: {error}")
        });
    }
    let is_wanted = observed
        .reason
        .is_some_and(|reason| expect.reasons.contains(&reason));
    let wanted: Vec<&str> = expect.reasons.iter().map(|reason| reason.as_str()).collect();
    (!is_wanted).then(|| format!("reason: wanted {}, found {found}", wanted.join(" or ")))
}

fn words(wanted: &[impl ToString]) -> String {
    let words: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    words.join(" or ")
}

/// The end of a program in a few words, with the last thing that it said: it tells most about why.
fn told(observed: &Observed) -> String {
    let Observed {
        outcome,
        reason,
        exit_code,
        signal,
        stdout,
        stderr,
        error,
        truncated: _,
        files: _,
        files_dropped: _,
    } = observed;
    let mut said = outcome.to_string();
    let details = [
        reason.map(|reason| reason.as_str().to_owned()),
        exit_code.map(|code| format!("exit code {code}")),
        signal.map(|signal| format!("signal {signal}")),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    if !details.is_empty() {
        said += &format!(" ({})", details.join(", "));
    }
    let texts = [
        ("error", error.as_deref().unwrap_or_default()),
        ("stderr", stderr),
        ("stdout", stdout),
    ];
    if let Some((name, text)) = texts.into_iter().find(|(_, text)| !text.trim().is_empty()) {
        let skipped = text.chars().count().saturating_sub(SHOWN_CHARS);
        let end: String = text.chars().skip(skipped).collect();
        said += &format!(" with {name} {}", quoted(&end));
    }
    said
}

/// Two texts from shortly before the place where they part: they may be long and differ at their end only.
fn difference(wanted: &str, found: &str) -> String {
    let common = wanted
        .chars()
        .zip(found.chars())
        .take_while(|(wanted, found)| wanted == found)
        .count();
    let from = common.saturating_sub(40);
    let rest = |text: &str| quoted(&text.chars().skip(from).collect::<String>());
    let place = if from > 0 {
        format!(" from character {from} on")
    } else {
        String::new()
    };
    format!("stdout: wanted{place} {}, found {}", rest(wanted), rest(found))
}

/// A text in quotes, and the size of what is left out of it.
fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let shown: String = characters.by_ref().take(SHOWN_CHARS).collect();
    match characters.count() {
        0 => format!("{shown:?}"),
        more => format!("{shown:?} and {more} characters more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed() -> Observed {
        Observed {
            outcome: Outcome::Error,
            reason: Some(Reason::NonZeroExit),
            exit_code: Some(1),
            signal: None,
            stdout: "out\n".to_owned(),
            stderr: "Traceback\nValueError: x\n".to_owned(),
            error: Some("Traceback\nValueError: x".to_owned()),
            truncated: false,
            files: vec!["a.csv text/csv".to_owned()],
            files_dropped: false,
        }
    }

    fn complaints_of(expect: Expect, observed: &Observed) -> Vec<String> {
        let program = Program {
            expect,
            ..Program::that_prints("a", "", "")
        };
        complaints(&program, observed)
    }

    fn an_error() -> Expect {
        Expect {
            outcomes: vec![Outcome::Timeout, Outcome::Error],
            ..Expect::default()
        }
    }

    #[test]
    fn what_is_as_it_must_be_is_no_complaint() {
        let strict = Expect {
            reasons: vec![Reason::OutOfMemory, Reason::NonZeroExit],
            exit: vec![0, 1],
            stdout: Some("out\n".to_owned()),
            stdout_has: vec!["ut".to_owned()],
            stdout_lacks: vec!["in".to_owned()],
            stderr_has: vec!["ValueError".to_owned()],
            truncated: Some(false),
            files: Some(vec!["a.csv text/csv".to_owned()]),
            files_dropped: Some(false),
            ..an_error()
        };
        assert_eq!(complaints_of(strict, &observed()), Vec::<String>::new());
        assert_eq!(complaints_of(an_error(), &observed()), Vec::<String>::new());
    }

    #[test]
    fn a_complaint_names_field_wanted_and_found() {
        let expect = Expect::success_with("in\n".to_owned());
        assert_eq!(
            complaints_of(expect, &observed()),
            [
                "outcome: wanted success, found error (NonZeroExit, exit code 1) with error \"Traceback\\nValueError: x\"",
                "stdout: wanted \"in\\n\", found \"out\\n\"",
            ]
        );
        let expect = Expect {
            reasons: vec![Reason::Signaled],
            exit: vec![2, 3],
            signal: vec![9],
            stdout_has: vec!["no".to_owned()],
            stdout_lacks: vec!["ut".to_owned()],
            stderr_has: vec!["yes".to_owned()],
            truncated: Some(true),
            files: Some(Vec::new()),
            files_dropped: Some(true),
            ..an_error()
        };
        assert_eq!(
            complaints_of(expect, &observed()),
            [
                "reason: wanted Signaled, found NonZeroExit",
                "exit code: wanted 2 or 3, found 1",
                "signal: wanted 9, found none",
                "stdout: wanted \"no\" in it, found \"out\\n\"",
                "stderr: wanted \"yes\" in it, found \"Traceback\\nValueError: x\\n\"",
                "stdout: wanted no \"ut\" in it, found \"ut\\n\"",
                "truncated: found false",
                "files: wanted [], found [\"a.csv text/csv\"]",
                "files_dropped: found false",
            ]
        );
    }

    #[test]
    fn a_fault_of_the_platform_is_never_the_error_that_a_program_may_have() {
        let broken = Observed {
            reason: Some(Reason::InternalError),
            error: Some("no result".to_owned()),
            ..observed()
        };
        assert_eq!(
            complaints_of(an_error(), &broken),
            ["reason: wanted one that a program can cause, found InternalError: \"no result\""]
        );
    }

    #[test]
    fn long_texts_are_shown_where_they_part() {
        let found = Observed {
            outcome: Outcome::Success,
            reason: Some(Reason::Completed),
            stdout: format!("{}y{}", "x".repeat(1000), "z".repeat(1000)),
            ..observed()
        };
        let complaint = complaints_of(Expect::success_with("x".repeat(1001)), &found).concat();
        assert!(
            complaint.starts_with("stdout: wanted from character 960 on \"xxx"),
            "{complaint}"
        );
        assert!(complaint.len() < 600, "{complaint}");
    }
}
