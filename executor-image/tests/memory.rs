//! Memory that ran out: the kernel that killed the program for want of it, told from a program that killed itself,
//! and many processes that the runner ends before the kernel has to.
//!
//! The cgroup's files are the test's, in the place where a container finds them: what the kernel does to a group of
//! processes is the end-to-end tests' affair.

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

/// Runs a program of so many processes besides its first one, in a container with 256 MiB, of which `used` are in
/// use as soon as they are there. They go on for 300 ms then.
fn with_memory_in_use(processes: usize, used: u64, file_pages: u64) -> Ran {
    let limit = 256 << 20;
    let pages = file_pages / 2;
    let file = |name: &str, text: &str| {
        let file = scratch_file(&format!("{name}-{processes}-{file_pages}"));
        fs::write(&file, text).expect("a file of one's own");
        file
    };
    let current = file("memory.current", "1048576\n");
    let max = file("memory.max", &format!("{limit}\n"));
    let stat = format!("anon 1\ninactive_file {pages}\nactive_file {pages}\n");
    let stat = file("memory.stat", &stat);
    let mut start = Start::default();
    for (name, file) in [("current", &current), ("max", &max), ("stat", &stat)] {
        let host = file.to_str().expect("cargo's paths are text");
        start = start.bwrap(&["--ro-bind", host, &format!("/sys/fs/cgroup/memory.{name}")]);
    }
    let code = format!(
        "import os, time\nfor _ in range({processes}):\n    if os.fork() == 0: time.sleep(60)\n\
         print('up', flush=True)\nwhile open('/sys/fs/cgroup/memory.current').read() != '{used}\\n': time.sleep(0.01)\n\
         time.sleep(0.3)"
    );
    let mut runner = start.start();
    runner.request(&request(&code));
    runner.printed("up");
    fs::write(&current, format!("{used}\n")).expect("a file of one's own");
    runner.result()
}

#[test]
fn many_processes_are_ended_before_they_fill_the_memory_together() {
    let ran = with_memory_in_use(20, 230 << 20, 0);
    assert_eq!((ran.signal(), ran.result.oom_killed), (9, true));
}

#[test]
fn few_processes_may_use_the_whole_memory() {
    let ran = with_memory_in_use(2, 255 << 20, 0);
    assert_eq!((ran.code(), ran.result.oom_killed), (0, false));
}

#[test]
fn pages_of_files_are_not_taken_for_memory_that_is_in_use() {
    let ran = with_memory_in_use(20, 230 << 20, 100 << 20);
    assert_eq!((ran.code(), ran.result.oom_killed), (0, false));
}
