//! The frames that the runner and its supervisor exchange, and how the runner itself ends.

mod common;

use std::fs;
use std::process::Command;

use codeexec_runner::frames::{Ended, FromRunner, Request, RunResult, Started, ToRunner, encode};
use common::{Start, request, run, scratch_file};
use rustix::process::Signal;

fn is_ready(frame: Option<&FromRunner>) -> bool {
    matches!(frame, Some(FromRunner::Ready(_)))
}

#[test]
fn ready_is_said_once_by_itself_and_for_each_hello() {
    let mut runner = Start::default().start();
    assert!(is_ready(runner.next().as_ref()));
    runner.send(&ToRunner::Hello);
    assert!(is_ready(runner.next().as_ref()));
    runner.send(&ToRunner::Hello);
    assert!(is_ready(runner.next().as_ref()));
}

#[test]
fn ready_tells_which_layers_are_in_force() {
    let ready = run("pass").ready;
    assert!(ready.isolation.seccomp && ready.isolation.no_new_privileges && ready.isolation.user_namespace);
    assert!(ready.python_version.starts_with("3."), "{ready:?}");
    // A machine may not show which modules its kernel has.
    if let Ok(modules) = fs::read_to_string("/sys/kernel/security/lsm") {
        assert_eq!(
            ready.isolation.landlock_abi > 0,
            modules.contains("landlock"),
            "{ready:?}"
        );
    }
}

#[test]
fn frames_come_in_order_as_the_program_prints() {
    let mut runner = Start::default().start();
    runner.request(&request("print('a')\ninput()\nprint('b')"));
    assert!(is_ready(runner.next().as_ref()));
    assert!(matches!(runner.next(), Some(FromRunner::Started(_))));
    assert!(matches!(runner.next(), Some(FromRunner::Output(output)) if output.data == "a\n"));
}

#[test]
fn a_repeat_is_answered_and_another_request_is_not() {
    let mut runner = Start::default().start();
    let program = request("print('ran', flush=True)\nimport time\ntime.sleep(100)");
    runner.request(&program);
    runner.printed("ran");
    runner.request(&Request {
        uid: "another".to_owned(),
        ..program.clone()
    });
    runner.request(&program);
    assert_eq!(
        runner.next(),
        Some(FromRunner::Started(Started {
            uid: program.uid.clone()
        }))
    );
    runner.signal(Signal::TERM);
    let ran = runner.result();
    assert_eq!(ran.stdout, "ran\n");
}

#[test]
fn half_a_frame_of_a_dead_supervisor_spoils_nothing() {
    let whole = encode(&ToRunner::Request(Box::new(request("print('whole')"))));
    let mut runner = Start::default().start();
    runner.send_bytes(&whole[..whole.len() / 2]);
    runner.send_bytes(&whole);
    assert_eq!(runner.result().printed(), "whole\n");
}

#[test]
fn the_end_of_standard_input_ends_nothing() {
    let mut runner = Start::default().start();
    runner.request(&request("print('ran')"));
    runner.close_stdin();
    assert_eq!(runner.result().printed(), "ran\n");
}

#[test]
fn a_program_that_is_told_to_stop_from_outside_is_terminated() {
    let mut runner = Start::default().start();
    runner.request(&request("print('runs')\nimport time\ntime.sleep(100)"));
    runner.printed("runs");
    runner.signal(Signal::TERM);
    let ran = runner.result();
    assert_eq!(
        (ran.result.ended, ran.stdout.as_str()),
        (Ended::Terminated, "runs\n")
    );
}

#[test]
fn an_idle_runner_that_is_told_to_stop_goes_at_once() {
    let mut runner = Start::default().start();
    assert!(is_ready(runner.next().as_ref()));
    runner.signal(Signal::TERM);
    let gone = runner.ended();
    assert_eq!((gone.exit_code, gone.transcript.result()), (Some(143), None));
}

#[test]
fn the_result_is_left_in_the_termination_log_as_well() {
    let log = scratch_file("termination-log-result");
    let path = log.to_str().expect("cargo's paths are text");
    let mut runner = Start::default()
        .bwrap(&["--bind", path, "/dev/termination-log"])
        .start();
    runner.request(&request(
        "try: open('/dev/termination-log', 'w').write('forged' * 999)\nexcept OSError: print('no')",
    ));
    let result = runner.result().result;
    let text = fs::read_to_string(log).expect("the runner wrote it");
    assert!(text.len() < 4096);
    assert_eq!(
        serde_json::from_str::<RunResult>(&text).expect("a result"),
        result
    );
}

#[test]
fn an_interpreter_that_does_not_come_up_is_told_of() {
    for (flag, expected) in [
        (
            "--python=/nowhere/python",
            "failed to start interpreter /nowhere/python in its sandbox: No such file",
        ),
        (
            "--python=/bin/true",
            "interpreter ended before it took a request: it exited with code 0",
        ),
        ("--workdir=/nowhere", "No such file"),
        (
            "--preload=no_such_module",
            "module no_such_module can't be preloaded: ModuleNotFoundError",
        ),
    ] {
        let log = scratch_file(&format!("termination-log-{}", flag.replace('/', "-")));
        let path = log.to_str().expect("cargo's paths are text");
        let start = Start::default()
            .flag(flag)
            .bwrap(&["--bind", path, "/dev/termination-log"]);
        let gone = start.start().ended();
        assert_eq!(gone.exit_code, Some(71), "{flag}");
        assert!(
            gone.runner_stderr.contains(expected),
            "{flag}: {}",
            gone.runner_stderr
        );
        let text = fs::read_to_string(log).expect("the runner wrote it");
        let left: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(
            left["error"]
                .as_str()
                .is_some_and(|error| error.contains(expected)),
            "{flag}: {text}"
        );
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let gone = Start::default().flag("--memory=1").start().ended();
    assert_eq!(gone.exit_code, Some(64));
    assert!(
        gone.runner_stderr.contains("unknown flag --memory"),
        "{}",
        gone.runner_stderr
    );
}

#[test]
fn outside_a_namespace_of_its_own_it_refuses_to_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_codeexec-runner"))
        .output()
        .expect("it was built");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be PID 1"));
}

#[test]
fn a_supervisor_that_does_not_read_delays_no_deadline() {
    let start = std::time::Instant::now();
    let log = scratch_file("termination-log-stuck");
    let path = log.to_str().expect("cargo's paths are text").to_owned();
    // A pipe that is never read takes 64 KiB, then nothing.
    let (unread, stdout) = std::io::pipe().expect("a pipe");
    let mut child = Start::default()
        .bwrap(&["--bind", &path, "/dev/termination-log"])
        .stdout(stdout)
        .start();
    child.request(&Request {
        timeout_ms: 1000,
        ..request("while True: print('x' * 1000)")
    });
    let gone = child.ended();
    let result: RunResult =
        serde_json::from_str(&fs::read_to_string(&log).expect("the runner wrote it")).expect("a result");
    assert_eq!((gone.exit_code, result.ended), (Some(0), Ended::DeadlineExceeded));
    assert!(result.run_ms < 1500 && start.elapsed().as_secs() < 10);
    drop(unread);
}
