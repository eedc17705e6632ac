//! A kernel that killed the program for want of memory, told from a program that killed itself.
//!
//! The counter is a file of the test's, in the place where a container finds that of its cgroup: what the kernel
//! does to a group of processes is the end-to-end tests' affair.

mod common;

use std::fs;

use codeexec_runner::frames::Ended;
use common::{Ran, Start, request, scratch_file};

/// Runs a program that dies of SIGKILL once the counter in `file` has become `after`.
fn killed_when_counted(file: &str, before: &str, after: &str) -> Ran {
    let counter = scratch_file(&format!("counter-{}", file.replace('/', "-")));
    fs::write(&counter, before).expect("a file of one's own");
    let host = counter.to_str().expect("cargo's paths are text");
    let code = format!(
        "import os, time\nprint('up', flush=True)\nwhile open('{file}').read() != {after:?}: time.sleep(0.01)\n\
         os.kill(os.getpid(), 9)"
    );
    let mut runner = Start::default().bwrap(&["--ro-bind", host, file]).start();
    runner.request(&request(&code));
    runner.printed("up");
    fs::write(&counter, after).expect("a file of one's own");
    let ran = runner.result();
    assert_eq!(ran.result.ended, Ended::Signaled { signal: 9 });
    ran
}

#[test]
fn on_cgroup_v2_the_kernel_s_kill_is_told_by_its_count() {
    let file = "/sys/fs/cgroup/memory.events";
    let counted = |oom_kill| format!("low 0\nhigh 0\nmax 3\noom 1\noom_kill {oom_kill}\noom_group_kill 0\n");
    assert!(
        killed_when_counted(file, &counted(0), &counted(1))
            .result
            .oom_killed
    );
    // A count from before the program says nothing about it, and neither do failed attempts to get memory.
    let attempts = "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n";
    assert!(!killed_when_counted(file, &counted(1), attempts).result.oom_killed);
}

#[test]
fn on_cgroup_v1_the_kernel_s_kill_is_told_by_its_count() {
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("a Linux");
    if !cgroups.contains(":memory:") {
        eprintln!("SKIPPED: this machine has no memory controller of cgroup v1");
        return;
    }
    let file = "/sys/fs/cgroup/memory/memory.oom_control";
    let counted = |oom_kill| format!("oom_kill_disable 0\nunder_oom 0\noom_kill {oom_kill}\n");
    assert!(
        killed_when_counted(file, &counted(0), &counted(1))
            .result
            .oom_killed
    );
    let under_pressure = "oom_kill_disable 0\nunder_oom 1\noom_kill 1\n";
    assert!(
        !killed_when_counted(file, &counted(1), under_pressure)
            .result
            .oom_killed
    );
}
