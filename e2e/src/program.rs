//! One program, in the two forms that people hand it in.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use codeexec_crds::{CodeExecution, CodeExecutionSpec, EnvVar, InputFile};
use serde_json::{Value, json};

/// A name that no other test uses, valid for every kind of object.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{now:x}-{:x}-{count:x}", std::process::id())
}

/// A program to run, and what it gets.
///
/// Programs of these tests reach `os` and `sys` through other modules (`shutil.os`): an installation's policy
/// may refuse `import os` by name.
#[derive(Clone, Debug)]
pub struct Program {
    spec: CodeExecutionSpec,
    annotations: Vec<(String, String)>,
}

impl Program {
    /// A program with every other field at its default.
    #[must_use]
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            spec: CodeExecutionSpec::python(code),
            annotations: Vec::new(),
        }
    }

    /// Prints `first` at once and, after about `seconds`, "done".
    #[must_use]
    pub fn that_takes(seconds: f64, first: &str) -> Self {
        Self::new(format!(
            "import time\nprint({first:?}, flush=True)\ntime.sleep({seconds})\nprint('done')\n"
        ))
    }

    /// Prints "runs" and takes more than a Pod may hold, in more processes than one may have on its own.
    #[must_use]
    pub fn that_runs_out_of_memory() -> Self {
        Self::new(
            "import os, time\nprint('runs', flush=True)\nfor _ in range(8):\n    if os.fork() == 0:\n        \
             held = bytearray(100 << 20)\n        time.sleep(20)\n        os._exit(0)\n\
             while True:\n    if os.wait()[1]: os._exit(1)",
        )
    }

    /// How long it may run.
    #[must_use]
    pub fn timeout(mut self, seconds: i32) -> Self {
        self.spec.timeout_seconds = seconds;
        self
    }

    /// What it reads.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.spec.stdin = Some(text.into());
        self
    }

    /// Its arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.spec.args = Some(args.into_iter().collect());
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.env.get_or_insert_default().push(EnvVar {
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// One more file.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, bytes: &[u8]) -> Self {
        self.spec.files.get_or_insert_default().push(InputFile {
            path: path.into(),
            content: STANDARD.encode(bytes),
        });
        self
    }

    /// The pool that runs it.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>) -> Self {
        self.spec.pool = name.into();
        self
    }

    /// Who it is from. Over HTTP the API server decides that.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.spec.user = name.into();
        self
    }

    /// How long its record stays.
    #[must_use]
    pub fn ttl(mut self, seconds: i64) -> Self {
        self.spec.ttl_seconds_after_finished = seconds;
        self
    }

    /// One more annotation. Only on the resource.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: impl Into<String>) -> Self {
        self.annotations.push((name.to_owned(), value.into()));
        self
    }

    /// The body of `POST /api/execute`.
    #[must_use]
    pub fn body(&self) -> Value {
        let CodeExecutionSpec {
            code,
            language,
            timeout_seconds,
            user: _,
            pool,
            stdin,
            args,
            env,
            files,
            cancel: _,
            ttl_seconds_after_finished: _,
        } = &self.spec;
        let mut body = json!({
            "code": code, "language": language, "timeout": timeout_seconds, "pool": pool,
        });
        if let Some(stdin) = stdin {
            body["stdin"] = json!(stdin);
        }
        if let Some(args) = args {
            body["args"] = json!(args);
        }
        if let Some(env) = env {
            body["env"] = env
                .iter()
                .map(|variable| (variable.name.clone(), json!(variable.value)))
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        if let Some(files) = files {
            body["files"] = json!(files);
        }
        body
    }

    /// The resource, for those who apply it by hand.
    #[must_use]
    pub fn resource(&self, name: &str) -> CodeExecution {
        let mut execution = CodeExecution::new(name, self.spec.clone());
        if !self.annotations.is_empty() {
            execution.metadata.annotations = Some(self.annotations.iter().cloned().collect());
        }
        execution
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let program = Program::new("print(1)")
            .timeout(3)
            .stdin("x")
            .env("A", "b")
            .file("f", b"hi");
        assert_eq!(
            program.body(),
            json!({
                "code": "print(1)", "language": "python", "timeout": 3, "pool": "default", "stdin": "x",
                "env": {"A": "b"}, "files": [{"path": "f", "content": "aGk="}],
            })
        );
        let spec = program.resource("name").spec;
        assert_eq!((spec.timeout_seconds, spec.stdin.as_deref()), (3, Some("x")));
    }

    #[test]
    fn unique_names_differ_and_are_valid_names() {
        let (one, two) = (unique("a"), unique("a"));
        assert_ne!(one, two);
        assert!(one.len() <= 63 && one.chars().all(|c| c == '-' || c.is_ascii_alphanumeric()));
    }
}
