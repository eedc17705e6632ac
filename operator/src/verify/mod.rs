//! `codeexec-operator verify-isolation`: shows on the user's own cluster what its isolation is worth.
//!
//! ```text
//!   hostile programs ──▶ CodeExecutions ──▶ the operator, as for anybody's ──▶ statuses ──▶ a table
//! ```
//!
//! It has no way of its own into the Pods: what it runs, and what it is told, is what every user gets.

mod table;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use codeexec_crds::{CodeExecution, CodeExecutionSpec, CodeExecutionStatus, Isolation};
use codeexec_execution::isolation::Layer;
use codeexec_suite::{Group, Observed, Program, SuiteError, Target, complaints, programs};
use futures::{StreamExt, stream};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

use crate::connection::{CallError, Clients, call};
use crate::records::is_finished;

/// The word that makes the operator's binary this command.
pub const COMMAND: &str = "verify-isolation";

/// What is tried: what a program could do to the network, to secrets, and to the runner that reports on it.
const GROUPS: [Group; 3] = [Group::Network, Group::Secrets, Group::Runner];

/// Waits long enough for the network's silence to be told from an answer that takes time.
const EVIDENCE: &str = "import time\ntime.sleep(1.5)";

/// How long a record stays that could not be deleted, in seconds: the least there is.
const TTL_SECONDS: i64 = 60;

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No Kubernetes API.
    #[error("no Kubernetes API to work with: {0}")]
    Connect(String),
    /// A call to it.
    #[error("failed to {what}")]
    Call {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: CallError,
    },
    /// The programs.
    #[error(transparent)]
    Suite(#[from] SuiteError),
}

/// Tries hostile programs on the cluster and shows which layers of isolation hold.
///
/// Exits with 1 when a program achieved what it must not, or a required layer is not in force.
#[derive(Clone, Debug, Parser)]
#[command(name = "codeexec-operator verify-isolation", version)]
pub struct Settings {
    /// Namespace of CodeExecutions.
    #[arg(
        long,
        env = "CODEEXEC_EXECUTIONS_NAMESPACE",
        default_value = "codeexec-executions"
    )]
    pub executions_namespace: String,

    /// The pool to try.
    #[arg(long, env = "CODEEXEC_VERIFY_POOL", default_value = "default")]
    pub pool: String,

    /// Layers that must be in force, separated by commas: seccomp, landlock, userNamespace, networkPolicy,
    /// runtimeClass.
    #[arg(long, env = "CODEEXEC_ISOLATION_REQUIRE", value_delimiter = ',')]
    pub require: Vec<Layer>,

    /// Programs at once.
    #[arg(long, env = "CODEEXEC_VERIFY_AT_ONCE", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub at_once: u8,

    /// Seconds that a program may take, from its creation to its result: its Pod has to start, too.
    #[arg(long, env = "CODEEXEC_VERIFY_PATIENCE_SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=3_600))]
    pub patience_seconds: u64,
}

/// What came of one program.
#[derive(Debug)]
struct Tried {
    group: Group,
    name: String,
    /// Empty where it went as it must.
    complaints: Vec<String>,
}

/// Everything that was found.
#[derive(Debug)]
struct Findings {
    /// As the runner of the last Pod reported it, or why there was none.
    isolation: Result<Isolation, String>,
    tried: Vec<Tried>,
}

/// Runs the command.
#[allow(clippy::print_stdout)] // Its table is what it is for.
pub async fn main(settings: Settings) -> ExitCode {
    match find(&settings).await {
        Ok(findings) => {
            print!("{}", table::text(&settings, &findings));
            if table::holds(&settings.require, &findings) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            eprintln!(
                "{error}{}",
                cause.map(|cause| format!(": {cause}")).unwrap_or_default()
            );
            ExitCode::FAILURE
        }
    }
}

async fn find(settings: &Settings) -> Result<Findings, VerifyError> {
    let client = Clients::connect()
        .await
        .map_err(|error| VerifyError::Connect(error.to_string()))?
        .main;
    let user = own_name(client.clone()).await?;
    let cluster = Cluster {
        executions: Api::namespaced(client, &settings.executions_namespace),
        user,
        pool: settings.pool.clone(),
        patience: Duration::from_secs(settings.patience_seconds),
    };
    let evidence = cluster.run(CodeExecutionSpec::python(EVIDENCE)).await?;
    let programs: Vec<Program> = programs()?
        .into_iter()
        .filter(|program| GROUPS.contains(&program.group) && program.runs_on(Target::Cluster))
        .collect();
    let mut tried: Vec<(usize, Tried)> = Vec::new();
    // Without the layers that the operator requires none of them would run.
    if evidence.as_ref().is_ok_and(|status| status.output.is_some()) {
        let mut running = stream::iter(programs.iter().enumerate())
            .map(async |(at, program)| Ok::<_, VerifyError>((at, cluster.attempt(program).await?)))
            .buffer_unordered(settings.at_once.into());
        while let Some(result) = running.next().await {
            tried.push(result?);
        }
    }
    tried.sort_by_key(|(at, _)| *at);
    Ok(Findings {
        isolation: evidence.and_then(|status| {
            let error = status.error.clone().unwrap_or_default();
            status.isolation.ok_or(error)
        }),
        tried: tried.into_iter().map(|(_, tried)| tried).collect(),
    })
}

/// The same program in words that no policy names: what is tried is the isolation, whatever the policy.
fn past_the_policy(spec: CodeExecutionSpec) -> CodeExecutionSpec {
    // A string of JSON is one of Python, too. Tracebacks show the program's own lines.
    let text = serde_json::Value::from(spec.code);
    let code = format!(
        "import builtins, linecache\n\
         text = {text}\n\
         linecache.cache['program.py'] = (len(text), None, text.splitlines(True), 'program.py')\n\
         run, read = (getattr(builtins, name) for name in ('exec', 'compile'))\n\
         run(read(text, 'program.py', 'exec'))\n"
    );
    CodeExecutionSpec { code, ..spec }
}

/// The name under which the Kubernetes API knows this process: programs may only be run in one's own.
async fn own_name(client: Client) -> Result<String, VerifyError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    let review = call(reviews.create(&PostParams::default(), &SelfSubjectReview::default()))
        .await
        .map_err(|source| VerifyError::Call {
            what: "ask who this is".to_owned(),
            source,
        })?;
    let user = review.status.and_then(|status| status.user_info?.username);
    Ok(user.unwrap_or_default())
}

struct Cluster {
    executions: Api<CodeExecution>,
    user: String,
    pool: String,
    patience: Duration,
}

impl Cluster {
    async fn attempt(&self, program: &Program) -> Result<Tried, VerifyError> {
        let complaints = match self.run(past_the_policy(program.spec())).await? {
            Ok(status) => complaints(program, &Observed::of_status(&status)),
            Err(why) => vec![why],
        };
        Ok(Tried {
            group: program.group,
            name: program.name.clone(),
            complaints,
        })
    }

    /// Runs a program; the inner error says why it has no result.
    async fn run(&self, spec: CodeExecutionSpec) -> Result<Result<CodeExecutionStatus, String>, VerifyError> {
        let name = format!("verify-{:016x}", rand::random::<u64>());
        let spec = CodeExecutionSpec {
            user: self.user.clone(),
            pool: self.pool.clone(),
            ttl_seconds_after_finished: TTL_SECONDS,
            ..spec
        };
        let execution = CodeExecution::new(&name, spec);
        call(self.executions.create(&PostParams::default(), &execution))
            .await
            .map_err(|source| VerifyError::Call {
                what: format!("create CodeExecution {name}"),
                source,
            })?;
        let finished = |object: Option<&CodeExecution>| object.is_none_or(is_finished);
        let waited = await_condition(self.executions.clone(), &name, finished);
        let result = match tokio::time::timeout(self.patience, waited).await {
            Ok(Ok(Some(object))) => Ok(object.status.unwrap_or_default()),
            Ok(Ok(None)) => Err("somebody deleted its record".to_owned()),
            Ok(Err(error)) => Err(format!("its record could not be watched: {error}")),
            Err(_) => Err(format!("it had no result after {} s", self.patience.as_secs())),
        };
        // What can't be deleted goes with its time to live.
        let _ = call(self.executions.delete(&name, &DeleteParams::default())).await;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_tried_whatever_the_policy() {
        let programs = programs().expect("the suite");
        let mut named = 0;
        for program in programs.iter().filter(|program| GROUPS.contains(&program.group)) {
            let spec = past_the_policy(program.spec());
            named += usize::from(!codeexec_policy::check(&program.code()).is_empty());
            assert_eq!(codeexec_policy::check(&spec.code), [], "{}", program.name);
            assert_eq!(codeexec_execution::validate(&spec), Ok(()), "{}", program.name);
        }
        assert!(named > 0, "no program says what the policy names");
    }
}
