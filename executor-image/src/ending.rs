//! How a program ended, out of what was seen.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use codeexec_runner::frames::Ended;

/// What ends it all.
#[derive(Debug)]
pub enum End {
    /// The interpreter ended.
    Child(ExitStatus),
    /// Its time is over.
    Deadline,
    /// The container was told to stop.
    Stopped,
    /// It holds more than it may, where no cgroup saw to that, or its many processes were about to.
    MemoryFull,
    /// It has more processes and threads than it may, where the kernel did not see to that.
    TooManyProcesses(u64),
    /// It could not be started.
    Failed(String),
}

/// How the program ended, by what ended it and what the bootstrap said.
pub fn ended(end: End, bootstrap_error: Option<String>) -> Ended {
    match (end, bootstrap_error) {
        (End::Child(_), Some(message)) | (End::Failed(message), _) => Ended::Failed { message },
        (End::Child(status), None) => match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exited { code },
            (None, Some(signal)) => Ended::Signaled { signal },
            (None, None) => Ended::Failed {
                message: format!("the program ended with status {:#x}", status.into_raw()),
            },
        },
        (End::MemoryFull, _) => Ended::Signaled {
            signal: rustix::process::Signal::KILL.as_raw(),
        },
        (End::TooManyProcesses(most), _) => Ended::TooManyProcesses { most },
        (End::Deadline, _) => Ended::DeadlineExceeded,
        (End::Stopped, _) => Ended::Terminated,
    }
}

/// What the bootstrap could not do. The program itself can't write here: the socket is closed before it starts.
pub fn bootstrap_error(control: &[u8]) -> Option<String> {
    control
        .strip_prefix(b"E")
        .map(|message| String::from_utf8_lossy(message).into_owned())
}

/// A status in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => format!("its status is {:#x}", status.into_raw()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_that_gave_up_says_why() {
        assert_eq!(bootstrap_error(b"Eno room"), Some("no room".to_owned()));
        assert_eq!(bootstrap_error(b""), None);
    }

    #[test]
    fn a_kill_of_the_runner_s_is_not_taken_for_the_program_s_end() {
        assert_eq!(ended(End::Deadline, None), Ended::DeadlineExceeded);
        assert_eq!(ended(End::Stopped, None), Ended::Terminated);
        assert_eq!(ended(End::MemoryFull, None), Ended::Signaled { signal: 9 });
    }
}
