//! The processes of a sandbox, seen from outside.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What a process has started and has not ended.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|children| numbers(&children))
        .collect()
}

/// Kills the processes whose numbers are in a text.
pub fn kill_all(pids: &str) {
    numbers(pids).into_iter().for_each(kill);
}

/// Kills bwrap, the leader of its group, and with it the sandbox.
///
/// --die-with-parent does that only for a sandbox that is up. What bwrap forks leaves its group at the same time, so
/// that it is in the group or, since long, in the list.
pub fn kill_sandbox(bwrap: u32) {
    children(bwrap).into_iter().for_each(kill);
    if let Some(bwrap) = as_pid(bwrap) {
        // An error means that it has ended.
        let _ = kill_process_group(bwrap, Signal::KILL);
    }
}

fn kill(pid: u32) {
    if let Some(pid) = as_pid(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}
