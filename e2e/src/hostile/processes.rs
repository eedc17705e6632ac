//! What runs below this process.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

use crate::wait_until;

/// How long what a program left may take to go away.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    parent: i32,
    name: String,
    has_ended: bool,
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.pid, self.name)
    }
}

/// Makes whatever loses its parent below this process a child of it, instead of the machine's first process,
/// so that [`left_over`] sees it.
///
/// # Errors
/// When the kernel refuses it.
pub fn adopt_orphans() -> Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Waits until nothing runs below this process but those in `allowed`, and otherwise says what does, and ends it.
pub async fn left_over(allowed: &[i32]) -> Vec<String> {
    let mut last = Vec::new();
    let gone = wait_until("nothing is left running", PATIENCE, async || {
        last = below_this(allowed);
        Ok(last.is_empty().then_some(()))
    });
    if gone.await.is_ok() {
        return Vec::new();
    }
    for process in &last {
        // Or every program after this one would be blamed for it.
        if let Some(pid) = Pid::from_raw(process.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let names: Vec<String> = last.iter().map(ToString::to_string).collect();
    vec![format!("left running: {}", names.join(", "))]
}

fn below_this(allowed: &[i32]) -> Vec<Process> {
    let mut found = below(&all(), getpid().as_raw_nonzero().get());
    found.retain(|process| !process.has_ended && !allowed.contains(&process.pid));
    found
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        // One that has ended meanwhile is none.
        .filter_map(|entry| parse(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect()
}

/// Reads /proc/PID/stat. The name stands in parentheses and may hold any character.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        name: name.to_owned(),
        has_ended: matches!(state, "Z" | "X"),
    })
}

fn below(all: &[Process], root: i32) -> Vec<Process> {
    let mut known = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let more: Vec<Process> = all
            .iter()
            .filter(|process| known.contains(&process.parent) && !known.contains(&process.pid))
            .cloned()
            .collect();
        if more.is_empty() {
            return found;
        }
        known.extend(more.iter().map(|process| process.pid));
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            name: "a".to_owned(),
            has_ended: false,
        }
    }

    #[test]
    fn a_process_s_name_may_hold_parentheses_and_newlines() {
        let read = parse("12 (a) R (b\n) Z 3 4 5");
        assert_eq!(
            read,
            Some(Process {
                name: "a) R (b\n".to_owned(),
                has_ended: true,
                ..process(12, 3)
            })
        );
    }

    #[test]
    fn grandchildren_are_below_and_siblings_are_not() {
        let all = [
            process(9, 5),
            process(5, 2),
            process(2, 1),
            process(3, 1),
            process(1, 0),
        ];
        let pids: Vec<i32> = below(&all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [5, 9]);
    }
    #[test]
    fn a_child_is_seen_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("every system has it");
        let pid = i32::try_from(child.id()).expect("a pid");
        let is_seen = |allowed: &[i32]| below_this(allowed).iter().any(|process| process.pid == pid);
        assert!(is_seen(&[]) && !is_seen(&[pid]));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert!(!is_seen(&[]));
    }
}
