//! From what is known of a run's end to the status that says it.

use codeexec_crds::{
    CodeExecutionSpec, CodeExecutionStatus, OutputBytes, Phase, Reason, ResultFile, Timings, Truncated, Usage,
};
use codeexec_runner::Transcript;
use codeexec_runner::encoding::encoded_len;
use codeexec_runner::frames::{self, Ended, IsolationReport, NetworkReport, RunResult};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::isolation::{isolation, later};
use crate::{budget, code_sha256};

/// What the runner kills with.
const SIGKILL: i32 = 9;

/// What ended an execution, beside what its runner reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The runner's result stands in the transcript, and nothing from outside ended the run.
    Reported,
    /// Somebody cancelled it. A result that the program reached by itself stands all the same.
    Cancelled,
    /// Its spec breaks a bound.
    Rejected(String),
    /// The kernel killed the whole container for want of memory.
    OutOfMemory,
    /// The node evicted its Pod; the kubelet's message.
    Evicted(String),
    /// Somebody deleted its Pod.
    PodDeleted,
    /// Its node is gone; what Kubernetes says of it.
    NodeLost(String),
    /// The Pod reached its own deadline before any result: the runner was stopped, or starved.
    PodDeadline,
    /// The image could not be pulled; the kubelet's message.
    ImagePull(String),
    /// No node had room; the scheduler's message.
    Unschedulable(String),
    /// A quota left no room; the API server's message.
    QuotaExceeded(String),
    /// A required layer of isolation is missing, and what to do about it.
    IsolationUnavailable(String),
    /// codeexec itself failed.
    Internal(String),
}

/// What the supervisor knows of the run apart from its frames.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Generation of the spec that ran.
    pub generation: Option<i64>,
    /// The Pod.
    pub pod_name: Option<String>,
    /// Its node.
    pub node_name: Option<String>,
    /// Its image, by digest.
    pub image_digest: Option<String>,
    /// Whether it stood ready before the request; unknown when no Pod was reached.
    pub warm: Option<bool>,
    /// When the program started.
    pub start_time: Option<Timestamp>,
    /// Timings but for the run itself, which the runner measures.
    pub timings: Timings,
    /// What the runner reported of its isolation.
    pub isolation: Option<IsolationReport>,
    /// What it reported of the network before the program; its result may know more.
    pub network: NetworkReport,
    /// RuntimeClass of the Pod.
    pub runtime_class: Option<String>,
    /// Whether the request may have reached a runner: then nothing may run it again.
    pub delivered: bool,
    /// CPU that the program may use, in vCPUs.
    pub vcpus: f64,
    /// Price of a vCPU-second.
    pub vcpu_second_price: f64,
}

/// The status of an execution that ended at `now`.
#[must_use]
pub fn status(
    spec: &CodeExecutionSpec,
    end: &End,
    transcript: &Transcript,
    facts: Facts,
    now: Timestamp,
) -> CodeExecutionStatus {
    let verdict = verdict(spec, end, transcript);
    let ran = facts.delivered || transcript.started();
    let result = transcript.result();
    let run_ms = result.map_or(0, |result| millis(result.run_ms));
    let (exit_code, signal) = match result.map(|result| &result.ended) {
        Some(Ended::Exited { code }) => (Some(*code), None),
        Some(Ended::Signaled { signal }) => (None, Some(*signal)),
        Some(Ended::TooManyProcesses { .. }) => (None, Some(SIGKILL)),
        _ => (None, None),
    };
    let network = result.map_or(facts.network, |result| later(facts.network, result.network));
    CodeExecutionStatus {
        phase: Some(verdict.phase),
        reason: Some(verdict.reason),
        retryable: Some(!ran && verdict.retry_may_help),
        queue_position: None,
        exit_code,
        signal,
        output: ran.then(|| transcript.stdout().to_owned()),
        stderr: ran.then(|| transcript.stderr().to_owned()),
        error: verdict.error.clone(),
        output_bytes: ran.then(|| output_bytes(transcript)),
        truncated: ran.then(|| truncated(transcript)),
        files: ran.then(|| files(transcript)),
        code_sha256: Some(code_sha256(&spec.code)),
        image_digest: facts.image_digest,
        pod_name: facts.pod_name,
        node_name: facts.node_name,
        warm: facts.warm,
        start_time: facts.start_time.map(Time),
        completion_time: Some(Time(now)),
        timings: Some(Timings {
            run_ms,
            ..facts.timings
        }),
        usage: result.map(|result| usage(result, facts.vcpus, facts.vcpu_second_price)),
        isolation: facts
            .isolation
            .map(|report| isolation(&report, &network, facts.runtime_class)),
        conditions: Some(vec![complete(&verdict, facts.generation, now)]),
        observed_generation: facts.generation,
    }
}

struct Verdict {
    phase: Phase,
    reason: Reason,
    error: Option<String>,
    retry_may_help: bool,
}

impl Verdict {
    fn failed(reason: Reason, error: impl Into<String>) -> Self {
        Self {
            phase: Phase::Failed,
            reason,
            error: Some(error.into()),
            retry_may_help: true,
        }
    }
}

fn verdict(spec: &CodeExecutionSpec, end: &End, transcript: &Transcript) -> Verdict {
    // What the program reached by itself is the truth, whatever happened to its Pod a moment later.
    if let Some(result) = transcript.result() {
        match &result.ended {
            Ended::Terminated => {}
            ended => return reported(spec, ended, result.oom_killed, transcript),
        }
    }
    let seconds = spec.timeout_seconds;
    match end {
        End::Reported => match transcript.result() {
            // Only the supervisor stops a runner, and it says why; here somebody else did.
            Some(_) => Verdict::failed(
                Reason::PodDeleted,
                "the execution was stopped from outside before it ended",
            ),
            None => Verdict::failed(Reason::InternalError, "the runner ended without a result"),
        },
        End::Cancelled => Verdict {
            phase: Phase::Cancelled,
            reason: Reason::Cancelled,
            error: Some("the execution was cancelled".to_owned()),
            retry_may_help: false,
        },
        End::Rejected(why) => Verdict {
            retry_may_help: false,
            ..Verdict::failed(Reason::Rejected, why)
        },
        End::OutOfMemory => Verdict::failed(Reason::OutOfMemory, "the program exceeded its memory limit"),
        End::Evicted(message) => {
            Verdict::failed(Reason::Evicted, with_detail("the node evicted the Pod", message))
        }
        End::PodDeleted => {
            Verdict::failed(Reason::PodDeleted, "the Pod was deleted before the program ended")
        }
        End::NodeLost(message) => {
            Verdict::failed(Reason::NodeLost, with_detail("the Pod's node was lost", message))
        }
        End::PodDeadline if transcript.started() => timed_out(seconds),
        End::PodDeadline => Verdict::failed(
            Reason::InternalError,
            "the Pod reached its deadline before the program started",
        ),
        End::ImagePull(message) => Verdict::failed(
            Reason::ImagePull,
            with_detail("the executor image could not be pulled", message),
        ),
        End::Unschedulable(message) => Verdict::failed(
            Reason::Unschedulable,
            with_detail("no node had room for the Pod", message),
        ),
        End::QuotaExceeded(message) => Verdict::failed(
            Reason::QuotaExceeded,
            with_detail("a quota left no room for the Pod", message),
        ),
        End::IsolationUnavailable(message) => Verdict::failed(Reason::IsolationUnavailable, message),
        End::Internal(message) => Verdict::failed(Reason::InternalError, message),
    }
}

fn reported(spec: &CodeExecutionSpec, ended: &Ended, oom_killed: bool, transcript: &Transcript) -> Verdict {
    if oom_killed && *ended != (Ended::Exited { code: 0 }) {
        return Verdict::failed(Reason::OutOfMemory, "the program exceeded its memory limit");
    }
    match ended {
        Ended::Exited { code: 0 } => Verdict {
            phase: Phase::Succeeded,
            reason: Reason::Completed,
            error: None,
            retry_may_help: false,
        },
        Ended::Exited { code } => {
            let error = traceback(transcript.stderr())
                .unwrap_or_else(|| format!("the program exited with code {code}"));
            Verdict::failed(Reason::NonZeroExit, error)
        }
        Ended::Signaled { signal } => {
            let name = signal_name(*signal)
                .map(|name| format!(" ({name})"))
                .unwrap_or_default();
            Verdict::failed(
                Reason::Signaled,
                format!("the program was ended by signal {signal}{name}"),
            )
        }
        Ended::TooManyProcesses { most } => Verdict::failed(
            Reason::Signaled,
            format!("the program was killed, because it had more than {most} processes and threads"),
        ),
        Ended::DeadlineExceeded => timed_out(spec.timeout_seconds),
        Ended::Terminated => Verdict::failed(Reason::PodDeleted, "the execution was stopped from outside"),
        Ended::Failed { message } => Verdict::failed(
            Reason::InternalError,
            with_detail("the runner could not run the program", message),
        ),
    }
}

fn timed_out(seconds: i32) -> Verdict {
    Verdict {
        phase: Phase::TimedOut,
        reason: Reason::DeadlineExceeded,
        error: Some(format!("Execution timeout ({seconds}s limit exceeded)")),
        retry_may_help: false,
    }
}

fn with_detail(sentence: &str, detail: &str) -> String {
    if detail.trim().is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence}: {}", detail.trim())
    }
}

/// What a failed program's standard error says: from its first traceback on, otherwise all of it. The end is
/// kept where it is long, for there stands the exception.
fn traceback(stderr: &str) -> Option<String> {
    const HEADER: &str = "Traceback (most recent call last):";
    let starts_line = |at: &usize| *at == 0 || stderr.as_bytes()[at - 1] == b'\n';
    let from = stderr
        .match_indices(HEADER)
        .map(|(at, _)| at)
        .find(starts_line)
        .unwrap_or(0);
    let text = stderr[from..].trim_end();
    if text.trim().is_empty() {
        return None;
    }
    let mut kept = 0;
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, character)| {
            kept += encoded_len(character.encode_utf8(&mut [0; 4]));
            kept <= budget::ERROR_ENCODED_BYTES
        })
        .last()
        .map_or(0, |(at, _)| at);
    Some(text[start..].to_owned())
}

fn output_bytes(transcript: &Transcript) -> OutputBytes {
    match transcript.result() {
        Some(result) => OutputBytes {
            stdout: millis(result.stdout.bytes),
            stderr: millis(result.stderr.bytes),
        },
        None => OutputBytes {
            stdout: millis(transcript.stdout().len() as u64),
            stderr: millis(transcript.stderr().len() as u64),
        },
    }
}

fn files(transcript: &Transcript) -> Vec<ResultFile> {
    let file = |file: &frames::ResultFile| ResultFile {
        path: file.path.clone(),
        mime_type: file.mime_type.clone(),
        content: file.content.clone(),
    };
    transcript.files().iter().map(file).collect()
}

/// Without the runner's totals nobody knows what was missed, so output and files count as truncated then.
fn truncated(transcript: &Transcript) -> Truncated {
    match transcript.result() {
        Some(result) if transcript.is_whole() => Truncated {
            stdout: result.stdout.truncated,
            stderr: result.stderr.truncated,
            files: result.files.dropped,
        },
        Some(result) => Truncated {
            stdout: result.stdout.truncated || result.stdout.bytes > transcript.stdout().len() as u64,
            stderr: result.stderr.truncated || result.stderr.bytes > transcript.stderr().len() as u64,
            files: result.files.dropped || result.files.count > transcript.files().len(),
        },
        None => Truncated {
            stdout: true,
            stderr: true,
            files: true,
        },
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds of a run of at most 30 s
fn usage(result: &RunResult, vcpus: f64, price: f64) -> Usage {
    let vcpu_seconds = result.run_ms as f64 / 1000.0 * vcpus;
    Usage {
        cpu_ms: millis(result.cpu_ms),
        peak_memory_bytes: millis(result.peak_memory_bytes),
        vcpu_seconds,
        cost: vcpu_seconds * price,
    }
}

fn complete(verdict: &Verdict, generation: Option<i64>, now: Timestamp) -> Condition {
    Condition {
        type_: "Complete".to_owned(),
        status: "True".to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: match verdict.phase {
            Phase::Succeeded => "the program exited with code 0".to_owned(),
            phase => format!("the execution ended as {}", phase.as_str()),
        },
        last_transition_time: Time(now),
        observed_generation: generation,
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
