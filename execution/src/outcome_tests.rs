use codeexec_runner::frames::{FileTotals, FromRunner, Output, Started, Stream, StreamTotals, hex};
use sha2::{Digest, Sha256};

use super::*;

fn totals(text: &str) -> StreamTotals {
    StreamTotals {
        bytes: text.len() as u64,
        truncated: false,
        sha256: hex(&Sha256::digest(text.as_bytes())),
    }
}

fn run(ended: Ended, stderr: &str) -> Transcript {
    let mut transcript = Transcript::new("u");
    transcript.push(FromRunner::Started(Started { uid: "u".into() }));
    transcript.push(FromRunner::Output(Output {
        stream: Stream::Stderr,
        seq: 0,
        data: stderr.into(),
    }));
    transcript.push(FromRunner::Result(Box::new(RunResult {
        uid: "u".into(),
        ended,
        oom_killed: false,
        stdout: totals(""),
        stderr: totals(stderr),
        files: FileTotals::default(),
        run_ms: 2000,
        cpu_ms: 1000,
        peak_memory_bytes: 1,
        network: NetworkReport::default(),
    })));
    transcript
}

fn judge(end: &End, transcript: &Transcript, delivered: bool) -> CodeExecutionStatus {
    let facts = Facts {
        delivered,
        vcpus: 0.5,
        vcpu_second_price: 2.0,
        ..Facts::default()
    };
    status(
        &CodeExecutionSpec::python("x"),
        end,
        transcript,
        facts,
        Timestamp::UNIX_EPOCH,
    )
}

fn summary(status: &CodeExecutionStatus) -> (Phase, Reason, bool) {
    (
        status.phase.expect("a verdict has a phase"),
        status.reason.expect("a verdict has a reason"),
        status.retryable.expect("a verdict says whether to retry"),
    )
}

#[test]
fn a_clean_exit_has_no_error_and_its_cost_is_cpu_given_times_time() {
    let status = judge(&End::Reported, &run(Ended::Exited { code: 0 }, "a warning"), true);
    assert_eq!(summary(&status), (Phase::Succeeded, Reason::Completed, false));
    assert_eq!(status.error, None);
    let usage = status.usage.expect("it ran");
    assert!((usage.vcpu_seconds - 1.0).abs() < 1e-9 && (usage.cost - 2.0).abs() < 1e-9);
}

#[test]
fn the_error_of_a_failed_program_is_its_traceback() {
    let stderr =
        "warming up\nTraceback (most recent call last):\n  File \"main.py\", line 1\nValueError: x\n";
    let status = judge(&End::Reported, &run(Ended::Exited { code: 1 }, stderr), true);
    assert_eq!(summary(&status), (Phase::Failed, Reason::NonZeroExit, false));
    assert_eq!(
        status.error.as_deref(),
        Some("Traceback (most recent call last):\n  File \"main.py\", line 1\nValueError: x")
    );
}

#[test]
fn a_failed_program_that_printed_nothing_still_has_an_error() {
    let status = judge(&End::Reported, &run(Ended::Exited { code: 3 }, " \n"), true);
    assert_eq!(status.error.as_deref(), Some("the program exited with code 3"));
    let status = judge(&End::Reported, &run(Ended::Signaled { signal: 11 }, ""), true);
    assert_eq!(
        status.error.as_deref(),
        Some("the program was ended by signal 11 (SIGSEGV)")
    );
    assert_eq!((status.exit_code, status.signal), (None, Some(11)));
}

#[test]
fn a_long_error_keeps_its_end_within_the_bound() {
    let stderr = format!("{}ValueError: the end", "<".repeat(100_000));
    let error = judge(&End::Reported, &run(Ended::Exited { code: 1 }, &stderr), true)
        .error
        .expect("it failed");
    assert!(error.ends_with("ValueError: the end"));
    assert!(encoded_len(&error) <= budget::ERROR_ENCODED_BYTES);
}

#[test]
fn the_timeout_text_is_the_plan_s() {
    let status = judge(&End::Reported, &run(Ended::DeadlineExceeded, ""), true);
    assert_eq!(
        summary(&status),
        (Phase::TimedOut, Reason::DeadlineExceeded, false)
    );
    assert_eq!(
        status.error.as_deref(),
        Some("Execution timeout (30s limit exceeded)")
    );
}

#[test]
fn a_result_that_the_program_reached_by_itself_beats_what_befell_its_pod() {
    for end in [End::Cancelled, End::PodDeleted, End::Evicted(String::new())] {
        let status = judge(&end, &run(Ended::Exited { code: 0 }, ""), true);
        assert_eq!(summary(&status).1, Reason::Completed, "{end:?}");
    }
}

#[test]
fn a_run_that_was_stopped_from_outside_says_by_what() {
    let stopped = run(Ended::Terminated, "");
    let reason = |end: End| summary(&judge(&end, &stopped, true)).1;
    assert_eq!(reason(End::Cancelled), Reason::Cancelled);
    assert_eq!(reason(End::PodDeleted), Reason::PodDeleted);
    assert_eq!(reason(End::Evicted("disk".into())), Reason::Evicted);
    assert_eq!(reason(End::NodeLost(String::new())), Reason::NodeLost);
}

#[test]
fn only_what_never_reached_a_runner_may_be_tried_again() {
    let nothing = Transcript::new("u");
    assert!(summary(&judge(&End::ImagePull("no such image".into()), &nothing, false)).2);
    assert!(!summary(&judge(&End::NodeLost(String::new()), &nothing, true)).2);
    assert!(
        !summary(&judge(
            &End::Rejected("code must not be blank".into()),
            &nothing,
            false
        ))
        .2
    );
    assert!(!summary(&judge(&End::Cancelled, &nothing, false)).2);
}

#[test]
fn memory_is_blamed_unless_the_program_ended_well() {
    let oom = |ended| {
        let mut transcript = run(ended, "");
        let mut result = transcript.result().cloned().expect("it has one");
        result.oom_killed = true;
        transcript.set_result(result);
        summary(&judge(&End::Reported, &transcript, true)).1
    };
    assert_eq!(oom(Ended::Signaled { signal: 9 }), Reason::OutOfMemory);
    assert_eq!(oom(Ended::Exited { code: 1 }), Reason::OutOfMemory);
    assert_eq!(oom(Ended::Exited { code: 0 }), Reason::Completed);
}

#[test]
fn output_without_the_runner_s_totals_counts_as_truncated() {
    let mut transcript = Transcript::new("u");
    transcript.push(FromRunner::Started(Started { uid: "u".into() }));
    let status = judge(&End::OutOfMemory, &transcript, true);
    assert_eq!(
        status.truncated,
        Some(Truncated {
            stdout: true,
            stderr: true,
            files: true,
        })
    );
    assert_eq!(status.files, Some(Vec::new()));
}

/// A run that left one file, of `count` that its runner took.
fn run_with_a_file(count: usize, dropped: bool) -> Transcript {
    let mut transcript = Transcript::new("u");
    let file = frames::ResultFile {
        seq: 0,
        path: "a.png".into(),
        mime_type: "image/png".into(),
        content: "aGk=".into(),
    };
    let files = FileTotals {
        count,
        ..FileTotals::of(std::slice::from_ref(&file), dropped)
    };
    transcript.push(FromRunner::Started(Started { uid: "u".into() }));
    transcript.push(FromRunner::File(file));
    let result = run(Ended::DeadlineExceeded, "").result().cloned();
    transcript.set_result(RunResult {
        files,
        ..result.expect("it has one")
    });
    transcript
}

#[test]
fn files_come_however_the_program_ended() {
    let status = judge(&End::Reported, &run_with_a_file(1, false), true);
    assert_eq!(status.phase, Some(Phase::TimedOut));
    let expected = ResultFile {
        path: "a.png".to_owned(),
        mime_type: "image/png".to_owned(),
        content: "aGk=".to_owned(),
    };
    assert_eq!(status.files, Some(vec![expected]));
    assert_eq!(status.truncated, Some(Truncated::default()));
}

#[test]
fn files_that_were_dropped_or_did_not_arrive_are_flagged() {
    for transcript in [run_with_a_file(1, true), run_with_a_file(2, false)] {
        let truncated = judge(&End::Reported, &transcript, true).truncated;
        assert!(truncated.is_some_and(|truncated| truncated.files && !truncated.stdout));
    }
}

#[test]
fn what_never_ran_has_no_files_at_all() {
    let status = judge(&End::Cancelled, &Transcript::new("u"), false);
    assert_eq!((status.files, status.truncated), (None, None));
}
