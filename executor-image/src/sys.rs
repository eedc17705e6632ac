//! The system calls that no crate wraps safely. All `unsafe` of the runner is here.
#![allow(unsafe_code)] // This module exists to hold it; each use states its invariant.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use rustix::process::Pid;

/// A signal taken from a [`SignalQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A child changed state.
    Child,
    /// Somebody outside the PID namespace wants the container to end.
    Stop,
    /// Sent from inside, so it means nothing.
    Forged,
}

/// Signals that are blocked and read from a file descriptor instead.
#[derive(Debug)]
pub struct SignalQueue(OwnedFd);

impl SignalQueue {
    /// Blocks SIGTERM, SIGINT and SIGCHLD in this thread and those it starts, and queues them.
    pub fn new() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initializes the set before anything reads it, and the signal numbers are valid.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        owned(fd).map(Self)
    }

    /// The next signal, if one waits.
    pub fn next(&self) -> Option<Signal> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has room for the `size` bytes, and is read only if all of them were written.
        let info = unsafe {
            let read = libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size);
            if read != size.cast_signed() {
                return None;
            }
            info.assume_init()
        };
        if info.ssi_signo == libc::SIGCHLD.cast_unsigned() {
            return Some(Signal::Child);
        }
        // The kernel names a sender outside the namespace 0. It does so too for signals that a program makes
        // it send (F_SETOWN with F_SETSIG), but those have another code than kill(2)'s.
        let outside = info.ssi_pid == 0 && info.ssi_code == libc::SI_USER;
        Some(if outside { Signal::Stop } else { Signal::Forged })
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes every open file descriptor but 0, 1 and 2 close on exec, whoever left it open.
pub fn close_on_exec() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: flags of descriptors change, none is closed here.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return;
    }
    // Linux before 5.11.
    for fd in 3..1024 {
        // SAFETY: as above; a number that is not open gives EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Kills every process of the PID namespace but this one. Only for PID 1.
pub fn kill_everyone() {
    // SAFETY: no memory is involved; the caller is PID 1, so that the signal stays in the container.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// What a process, and those of its own that it waited for, have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// Largest resident set of one process, in bytes.
    pub peak_bytes: u64,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Waited {
    /// It.
    pub pid: Pid,
    /// How.
    pub status: ExitStatus,
    /// With what.
    pub usage: Usage,
}

/// Takes one child that has ended; nothing where all still run, and ECHILD where there is none.
pub fn wait_any() -> io::Result<Option<Waited>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: both results have room, and are read only where the call returns a child and so has filled them.
    let (pid, usage) = unsafe {
        // __WALL: whatever signal its end was to send.
        let flags = libc::WNOHANG | libc::__WALL;
        match libc::wait4(-1, &raw mut status, flags, usage.as_mut_ptr()) {
            -1 => return Err(io::Error::last_os_error()),
            pid => match Pid::from_raw(pid) {
                Some(pid) => (pid, usage.assume_init()),
                None => return Ok(None),
            },
        }
    };
    let micros = |time: libc::timeval| time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_usec.cast_unsigned();
    Ok(Some(Waited {
        pid,
        status: ExitStatus::from_raw(status),
        usage: Usage {
            cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
            peak_bytes: usage.ru_maxrss.cast_unsigned() * 1024,
        },
    }))
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us + other.cpu_us,
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

/// CPU time that a process has used, in microseconds; 0 where it can't be told.
pub fn cpu_us(pid: Pid) -> u64 {
    let mut clock = 0;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: both calls fill their result where they return 0, and it is read only then.
    let time = unsafe {
        if libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock) != 0
            || libc::clock_gettime(clock, time.as_mut_ptr()) != 0
        {
            return 0;
        }
        time.assume_init()
    };
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1000
}

/// The kernel's Landlock ABI; 0 where it has none or it is off.
pub fn landlock_abi() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call reads nothing and returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    i32::try_from(abi).unwrap_or(0).max(0)
}

/// Runs `enter` in the child between fork and exec, with no signal blocked or ignored: both would be inherited.
/// A shell starts what it runs in the background with SIGINT ignored, and Python then leaves it so.
pub fn before_exec(command: &mut Command, mut enter: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    let enter = move || {
        reset_signals();
        unblock_signals()?;
        enter()
    };
    // SAFETY: the only other thread at the fork is the writer, which waits for its next frame and holds no lock
    // but, at worst, the allocator's, which both C libraries make usable in the child (glibc; musl from 1.2.2). So
    // `enter` may do whatever it could do before the fork.
    unsafe { command.pre_exec(enter) };
}

fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: a default disposition runs no code of ours. For SIGKILL, SIGSTOP and the numbers that the C
        // library keeps for itself it fails, and nothing has to be done.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set before it is read.
    let error = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned it, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
