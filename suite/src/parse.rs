use std::collections::{BTreeMap, HashSet};

use codeexec_crds::{Reason, bounds};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::expect::{Expect, Outcome};
use crate::program::{Group, Helper, Program, Target};

const DEFAULT_TIMEOUT_SECONDS: i32 = 10;

const FILES: [(Group, &str); 10] = [
    (Group::Resources, include_str!("../programs/resources.yaml")),
    (Group::Output, include_str!("../programs/output.yaml")),
    (Group::Ends, include_str!("../programs/ends.yaml")),
    (Group::Runner, include_str!("../programs/runner.yaml")),
    (Group::Secrets, include_str!("../programs/secrets.yaml")),
    (Group::Network, include_str!("../programs/network.yaml")),
    (Group::Kernel, include_str!("../programs/kernel.yaml")),
    (Group::Input, include_str!("../programs/input.yaml")),
    (Group::Files, include_str!("../programs/files.yaml")),
    (Group::Benign, include_str!("../programs/benign.yaml")),
];

/// A program that can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A file that is no list.
    #[error("programs/{group}.yaml: {error}")]
    File {
        /// Its name without the suffix.
        group: Group,
        /// What the parser says.
        error: serde_yaml::Error,
    },
    /// A program that is not as the format wants it.
    #[error("programs/{group}.yaml: program {program}: {problem}")]
    Program {
        /// The file's name without the suffix.
        group: Group,
        /// Its name, or its place where it has none.
        program: String,
        /// What is wrong.
        problem: String,
    },
}

/// A program as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    why: String,
    timeout: Option<i32>,
    #[serde(default)]
    uses: Vec<Helper>,
    #[serde(default)]
    needs: Vec<String>,
    only: Option<Vec<Target>>,
    #[serde(default)]
    alone: bool,
    stdin: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<WrittenFile>,
    code: String,
    expect: WrittenExpect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    path: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExpect {
    outcome: OneOrMany<Outcome>,
    #[serde(default)]
    reason: OneOrMany<Reason>,
    #[serde(default)]
    exit: OneOrMany<i32>,
    #[serde(default)]
    signal: OneOrMany<i32>,
    stdout: Option<String>,
    #[serde(default)]
    stdout_has: OneOrMany<String>,
    #[serde(default)]
    stdout_lacks: OneOrMany<String>,
    #[serde(default)]
    stderr_has: OneOrMany<String>,
    truncated: Option<bool>,
    files: Option<Vec<String>>,
    files_dropped: Option<bool>,
}

/// A value, or a list of them.
struct OneOrMany<T>(Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

// An untagged enum would not say what is wrong with a value.
impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_yaml::Value::deserialize(deserializer)?;
        let read = if value.is_sequence() {
            serde_yaml::from_value(value)
        } else {
            serde_yaml::from_value(value).map(|one| vec![one])
        };
        read.map(Self).map_err(D::Error::custom)
    }
}

/// All programs, in the order of their files.
///
/// # Errors
/// [`SuiteError`], for the first program that is not as the format wants it.
pub fn programs() -> Result<Vec<Program>, SuiteError> {
    let mut all = Vec::new();
    let mut names = HashSet::new();
    for (group, text) in FILES {
        for program in parse(group, text)? {
            if !names.insert(program.name.clone()) {
                return Err(problem(&program, "its name is taken"));
            }
            all.push(program);
        }
    }
    Ok(all)
}

fn parse(group: Group, text: &str) -> Result<Vec<Program>, SuiteError> {
    let written: Vec<serde_yaml::Value> =
        serde_yaml::from_str(text).map_err(|error| SuiteError::File { group, error })?;
    let read = |(place, value): (usize, serde_yaml::Value)| {
        let name = value
            .get("name")
            .and_then(|name| name.as_str())
            .map(str::to_owned);
        let written: Written = serde_yaml::from_value(value).map_err(|error| SuiteError::Program {
            group,
            program: name.unwrap_or_else(|| format!("number {}", place + 1)),
            problem: error.to_string(),
        })?;
        let program = program(group, written);
        match first_problem(&program) {
            Some(what) => Err(problem(&program, what)),
            None => Ok(program),
        }
    };
    written.into_iter().enumerate().map(read).collect()
}

fn program(group: Group, written: Written) -> Program {
    let expect = written.expect;
    Program {
        name: written.name,
        why: written.why,
        group,
        timeout_seconds: written.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS),
        needs: written.needs,
        only: written.only,
        alone: written.alone,
        stdin: written.stdin,
        args: written.args,
        env: written.env.into_iter().collect(),
        files: written
            .files
            .into_iter()
            .map(|file| Program::file(file.path, &file.text))
            .collect(),
        expect: Expect {
            outcomes: expect.outcome.0,
            reasons: expect.reason.0,
            exit: expect.exit.0,
            signal: expect.signal.0,
            stdout: expect.stdout,
            stdout_has: expect.stdout_has.0,
            stdout_lacks: expect.stdout_lacks.0,
            stderr_has: expect.stderr_has.0,
            truncated: expect.truncated,
            files: expect.files,
            files_dropped: expect.files_dropped,
        },
        uses: written.uses,
        own_code: written.code,
    }
}

fn problem(program: &Program, what: impl Into<String>) -> SuiteError {
    SuiteError::Program {
        group: program.group,
        program: program.name.clone(),
        problem: what.into(),
    }
}

fn first_problem(program: &Program) -> Option<&'static str> {
    let name = program.name.as_str();
    let is_kebab = name
        .split('-')
        .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
    let expect = &program.expect;
    let is_refused = expect.is_refused();
    // What is refused may break any bound on purpose.
    let keeps_bounds = is_refused
        || (bounds::TIMEOUT_SECONDS.contains(&program.timeout_seconds)
            && program.code().chars().count() <= bounds::CODE_CHARS);
    if !is_kebab {
        Some("its name is not in kebab case")
    } else if program.why.trim().is_empty() {
        Some("it says no why")
    } else if expect.outcomes.is_empty() {
        Some("it expects no outcome")
    } else if is_refused && expect.outcomes.len() > 1 {
        Some("it expects to be refused and to run")
    } else if !keeps_bounds {
        Some("its timeout is not within 1 to 30 seconds, or its code is longer than 10000 characters")
    } else if program.only.as_ref().is_some_and(Vec::is_empty) {
        Some("it runs nowhere")
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    const WHOLE: &str = "
- name: a-1
  why: because
  timeout: 2
  uses: [attempt]
  needs: [numpy]
  only: [runner, local]
  stdin: in
  args: [x]
  env: {A: b}
  files: [{path: d/f, text: hi}]
  code: |
    print(1)
  expect:
    outcome: [error, timeout]
    reason: OutOfMemory
    stdout_has: one
    stdout_lacks: [two, three]
- name: b
  why: because
  code: print(2)
  expect: {outcome: success, exit: 0}
";

    #[test]
    fn every_program_of_the_suite_is_as_the_format_wants_it() {
        programs().unwrap();
    }

    #[test]
    fn a_program_says_the_same_as_a_spec_and_as_a_body() {
        let programs = parse(Group::Ends, WHOLE).unwrap();
        let (program, spec) = (&programs[0], programs[0].spec());
        assert!(program.code().ends_with("\nprint(1)\n") && program.code().starts_with("import ctypes"));
        let body = program.body();
        assert_eq!(body["code"], spec.code);
        assert_eq!((body["timeout"].as_i64(), spec.timeout_seconds), (Some(2), 2));
        assert_eq!(body["files"][0]["content"], "aGk=");
        assert_eq!(spec.files.unwrap()[0].content, "aGk=");
        assert_eq!(
            (body["env"]["A"].as_str(), body["args"][0].as_str()),
            (Some("b"), Some("x"))
        );
        assert!(program.runs_on(Target::Local) && !program.runs_on(Target::Cluster));
        assert_eq!(program.expect.outcomes, [Outcome::Error, Outcome::Timeout]);
        assert_eq!(program.expect.reasons, [Reason::OutOfMemory]);
        assert_eq!(program.expect.stdout_lacks, ["two", "three"]);
        assert_eq!(
            (programs[1].timeout_seconds, programs[1].code().as_str()),
            (10, "print(2)")
        );
        assert_eq!(programs[1].body().as_object().unwrap().len(), 3);
    }

    #[test]
    fn a_mistake_names_file_program_and_field() {
        let error = |from: &str, to: &str| {
            let text = WHOLE.replace(from, to);
            parse(Group::Ends, &text).unwrap_err().to_string()
        };
        let unknown = error("stdout_has", "stdout_had");
        assert!(
            unknown.starts_with("programs/ends.yaml: program a-1: ") && unknown.contains("stdout_had"),
            "{unknown}"
        );
        for (from, to, says) in [
            ("name: b", "nam: b", "program number 2: "),
            ("name: b", "name: B", "program B: its name is not in kebab case"),
            ("timeout: 2", "timeout: 31", "its timeout is not within"),
            ("outcome: success", "outcome: []", "it expects no outcome"),
            (
                "outcome: success",
                "outcome: sucess",
                "program b: unknown variant `sucess`",
            ),
            (
                "stdout_has: one",
                "stdout_has: 1",
                "program a-1: invalid type: integer `1`",
            ),
            (
                "outcome: success",
                "outcome: [success, refused]",
                "refused and to run",
            ),
            ("- name: a-1", "name: a-1", "programs/ends.yaml: "),
        ] {
            assert!(
                error(from, to).contains(says),
                "{from} -> {to}: {}",
                error(from, to)
            );
        }
    }
}
