//! All processes of the PID namespace but the runner.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::sys::{self, Signal, SignalQueue, Usage};

/// How many signals or ended processes are looked at before everything else gets its turn: a program that makes
/// them faster than they are taken must not hold up its deadline.
pub const AT_ONCE: usize = 256;
/// How long killed processes may take to be gone.
const REAP_PATIENCE: Duration = Duration::from_secs(3);

/// Their folders in /proc.
pub fn others() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name != "1" && name.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// How many threads they have together; a process has at least one.
pub fn threads_of_others() -> u64 {
    // The folder's links: two of any folder, and one for each thread in it.
    let threads =
        |process: PathBuf| fs::metadata(process.join("task")).map(|task| task.nlink().saturating_sub(2));
    others().filter_map(|process| threads(process).ok()).sum()
}

/// Those that have ended and were taken.
#[derive(Debug, Default)]
pub struct Reaped {
    /// How the interpreter ended, if it was among them.
    pub of_child: Option<ExitStatus>,
    /// What they used.
    pub usage: Usage,
    /// There is no process left.
    pub nobody_left: bool,
    /// There may be more that have ended.
    pub more: bool,
}

/// Takes every process that has ended; as PID 1 the runner is the parent of all orphans.
pub fn reap(child: Pid) -> Reaped {
    let mut reaped = Reaped::default();
    for _ in 0..AT_ONCE {
        match sys::wait_any() {
            Ok(Some(ended)) => {
                reaped.usage = reaped.usage.and(ended.usage);
                if ended.pid == child {
                    reaped.of_child = Some(ended.status);
                }
            }
            Ok(None) => return reaped,
            Err(error) => {
                reaped.nobody_left = error.raw_os_error() == Some(libc::ECHILD);
                return reaped;
            }
        }
    }
    reaped.more = true;
    reaped
}

/// What there was to see when all were killed.
#[derive(Debug, Default)]
pub struct Killed {
    /// What they used.
    pub usage: Usage,
    /// Every one of them has gone.
    pub nobody_left: bool,
    /// Somebody outside asked the runner to stop meanwhile.
    pub told_to_stop: bool,
}

/// Kills until there is nobody left: a process that was just being forked may have missed the first one.
pub fn kill_all(child: Pid, signals: &SignalQueue) -> Killed {
    let patience = Instant::now() + REAP_PATIENCE;
    let mut killed = Killed::default();
    loop {
        sys::kill_everyone();
        while let Some(signal) = signals.next() {
            killed.told_to_stop |= signal == Signal::Stop;
        }
        let reaped = reap(child);
        killed.usage = killed.usage.and(reaped.usage);
        killed.nobody_left = reaped.nobody_left;
        if killed.nobody_left || Instant::now() > patience {
            return killed;
        }
        let mut fds = [PollFd::new(signals, PollFlags::IN)];
        let short = Timespec {
            tv_sec: 0,
            tv_nsec: 5_000_000,
        };
        // Whatever woke it, the loop looks again.
        let _ = poll(&mut fds, Some(&short));
    }
}
