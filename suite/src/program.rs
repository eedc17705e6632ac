use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use codeexec_crds::{CodeExecutionSpec, EnvVar, InputFile};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Expect;

/// Defines `attempt(what, act)`, which prints nothing but what succeeded, and `call(number, *args)`, a raw
/// system call. The word that it prints does not stand in it: a program may print its own text.
const ATTEMPT: &str = "\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, act):
    try: outcome = act()
    except BaseException: return
    print('SUCC' + 'EEDED', str(what) + ':', repr(outcome)[:200])
def call(number, *args):
    # Arguments as longs, or pointers above 4 GiB are cut.
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result == -1: raise OSError(ctypes.get_errno(), 'refused')
    return result
";

/// What `attempt` prints where something worked that must not.
pub(crate) const SUCCEEDED: &str = "SUCCEEDED";

/// What programs run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The runner alone.
    Runner,
    /// The API server in local mode.
    Local,
    /// An installation on a cluster.
    Cluster,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Runner => "runner",
            Self::Local => "local",
            Self::Cluster => "cluster",
        })
    }
}

/// What a program is about: the file that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Memory, processes, files, time.
    Resources,
    /// What a program prints.
    Output,
    /// How a program ends.
    Ends,
    /// Attacks on the process that supervises it.
    Runner,
    /// Looking for what belongs to others.
    Secrets,
    /// Ways out.
    Network,
    /// Attacks on the kernel.
    Kernel,
    /// Unusual source texts and requests.
    Input,
    /// What a program leaves as results.
    Files,
    /// What must work.
    Benign,
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Resources => "resources",
            Self::Output => "output",
            Self::Ends => "ends",
            Self::Runner => "runner",
            Self::Secrets => "secrets",
            Self::Network => "network",
            Self::Kernel => "kernel",
            Self::Input => "input",
            Self::Files => "files",
            Self::Benign => "benign",
        })
    }
}

/// Code that is put before a program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Helper {
    /// `attempt` and `call`.
    Attempt,
}

impl Helper {
    fn code(self) -> &'static str {
        match self {
            Self::Attempt => ATTEMPT,
        }
    }
}

/// A program and the outcome that it must have.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, unique in the suite.
    pub name: String,
    /// What a success would break, or why the outcome is right.
    pub why: String,
    /// What it is about.
    pub group: Group,
    /// How long it may run.
    pub timeout_seconds: i32,
    /// Modules without which it makes no sense.
    pub needs: Vec<String>,
    /// The targets it makes sense on; all unless given.
    pub only: Option<Vec<Target>>,
    /// Whether what it tries is only forbidden to a program's first process, on its own.
    pub alone: bool,
    /// What it reads.
    pub stdin: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, names and values.
    pub env: Vec<(String, String)>,
    /// Its files, paths and base64.
    pub files: Vec<(String, String)>,
    /// The outcome that it must have.
    pub expect: Expect,
    pub(crate) uses: Vec<Helper>,
    pub(crate) own_code: String,
}

impl Program {
    /// A program without anything beside its code.
    pub(crate) fn plain(
        name: String,
        why: String,
        group: Group,
        timeout_seconds: i32,
        own_code: String,
    ) -> Self {
        Self {
            name,
            why,
            group,
            timeout_seconds,
            needs: Vec::new(),
            only: None,
            alone: false,
            stdin: None,
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            expect: Expect::default(),
            uses: Vec::new(),
            own_code,
        }
    }

    /// A program that must print exactly this and succeed.
    #[must_use]
    pub fn that_prints(name: &str, code: impl Into<String>, stdout: impl Into<String>) -> Self {
        let why = "the harness asks".to_owned();
        Self {
            expect: Expect::success_with(stdout.into()),
            ..Self::plain(name.to_owned(), why, Group::Benign, 10, code.into())
        }
    }

    /// Its text: the helpers that it uses, then its own.
    #[must_use]
    pub fn code(&self) -> String {
        let helpers = self.uses.iter().map(|helper| helper.code());
        helpers.chain([self.own_code.as_str()]).collect()
    }

    /// Whether it makes sense there.
    #[must_use]
    pub fn runs_on(&self, target: Target) -> bool {
        // The bounds of a request are the API's; the runner alone has none.
        let is_refused = self.expect.is_refused() && target == Target::Runner;
        !is_refused && self.only.as_ref().is_none_or(|only| only.contains(&target))
    }

    /// What a CodeExecution of it says.
    #[must_use]
    pub fn spec(&self) -> CodeExecutionSpec {
        let given = |is_empty: bool| (!is_empty).then_some(());
        CodeExecutionSpec {
            timeout_seconds: self.timeout_seconds,
            stdin: self.stdin.clone(),
            args: given(self.args.is_empty()).map(|()| self.args.clone()),
            env: given(self.env.is_empty()).map(|()| {
                let variable = |(name, value): &(String, String)| EnvVar {
                    name: name.clone(),
                    value: value.clone(),
                };
                self.env.iter().map(variable).collect()
            }),
            files: given(self.files.is_empty()).map(|()| {
                let file = |(path, content): &(String, String)| InputFile {
                    path: path.clone(),
                    content: content.clone(),
                };
                self.files.iter().map(file).collect()
            }),
            ..CodeExecutionSpec::python(self.code())
        }
    }

    /// The body of `POST /api/execute` with it.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({"code": self.code(), "language": "python", "timeout": self.timeout_seconds});
        if let Some(stdin) = &self.stdin {
            body["stdin"] = json!(stdin);
        }
        if !self.args.is_empty() {
            body["args"] = json!(self.args);
        }
        if !self.env.is_empty() {
            let variables = self.env.iter().map(|(name, value)| (name.clone(), json!(value)));
            body["env"] = variables.collect::<Map<_, _>>().into();
        }
        if !self.files.is_empty() {
            let file = |(path, content): &(String, String)| json!({"path": path, "content": content});
            body["files"] = self.files.iter().map(file).collect();
        }
        body
    }

    /// A text file of a program, as requests carry it.
    pub(crate) fn file(path: String, text: &str) -> (String, String) {
        (path, STANDARD.encode(text))
    }
}
