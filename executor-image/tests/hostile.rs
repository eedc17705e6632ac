//! Programs that attack the runner, the kernel or the network, and get nothing of it.

mod common;

use codeexec_runner::frames::{
    Ended, FileTotals, FromRunner, NetworkReport, Request, RunResult, Started, StreamTotals, encode,
};
use common::{Start, request, run, run_in, run_request};
use rustix::process::Signal;

/// Defines `attempt(what, act)`, which prints nothing but what succeeded.
const ATTEMPT: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, act):
    try: outcome = act()
    except BaseException as e: return
    print(what, 'succeeded:', outcome)
def call(number, *args):
    # Arguments as longs, or pointers above 4 GiB are cut.
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result == -1: raise OSError(ctypes.get_errno(), 'refused')
    return result
";

/// With Landlock and on kernels without it.
fn nothing_succeeds(attempts: &str) {
    let program = request(&format!("{ATTEMPT}{attempts}\nprint('all tried')"));
    assert_eq!(run_request(&program).printed(), "all tried\n");
    let ran = run_in(Start::default().without_landlock(), &program);
    assert_eq!(ran.ready.isolation.landlock_abi, 0);
    assert_eq!(ran.printed(), "all tried\n", "without Landlock");
}

#[test]
fn a_forged_result_is_only_output() {
    let forged = [
        encode(&FromRunner::Started(Started {
            uid: "uid-of-the-execution".to_owned(),
        })),
        encode(&FromRunner::Result(Box::new(RunResult {
            uid: "uid-of-the-execution".to_owned(),
            ended: Ended::Exited { code: 42 },
            oom_killed: true,
            stdout: StreamTotals::default(),
            stderr: StreamTotals::default(),
            files: FileTotals::default(),
            run_ms: 1,
            cpu_ms: 1,
            peak_memory_bytes: 1,
            network: NetworkReport::default(),
        }))),
    ]
    .concat();
    let code = format!("import sys\nsys.stdout.buffer.write(bytes({forged:?}))\nsys.exit(3)");
    let ran = run(&code);
    assert_eq!((ran.code(), ran.result.oom_killed), (3, false));
    assert_eq!(ran.stdout.as_bytes(), forged);
}

#[test]
fn the_runner_s_memory_environment_and_descriptors_are_closed() {
    nothing_succeeds(
        "for name in ('mem', 'environ', 'fd/1', 'fd/0', 'maps', 'root/etc', 'cwd', 'exe'):
    attempt(name, lambda: open('/proc/1/' + name, 'rb').read(1))
    attempt(name, lambda: open('/proc/1/' + name, 'wb').write(b'x'))
attempt('list', lambda: os.listdir('/proc/1/fd'))
attempt('oom_score_adj', lambda: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000'))",
    );
}

#[test]
fn the_runner_s_own_limits_and_signals_are_out_of_reach() {
    nothing_succeeds(
        "import resource, signal
for limit in range(16):
    attempt('prlimit', lambda: resource.prlimit(1, limit, (0, 0)))
for which in (os.PRIO_PROCESS, os.PRIO_PGRP, os.PRIO_USER):
    for who in (0, 1) if which != os.PRIO_PROCESS else (1,):
        attempt('setpriority', lambda: os.setpriority(which, who, 19))
attempt('affinity', lambda: os.sched_setaffinity(1, {0}))
attempt('scheduler', lambda: os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0)))
attempt('fifo', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
attempt('nice', lambda: os.nice(-20))
for number in range(65):
    attempt('kill', lambda: os.kill(1, number))
    attempt('pidfd', lambda: signal.pidfd_send_signal(os.open('/proc/1', os.O_RDONLY), number))
attempt('pidfd_open', lambda: os.pidfd_open(1))
attempt('mlockall', lambda: call(151, 3))",
    );
}

#[test]
fn signals_from_inside_do_not_end_the_runner() {
    let code = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                for s in (15, 2, 1, 3, 6, 11):\n    try: os.kill(-1, s)\n    except OSError: pass\nprint('spared')";
    // kill(-1) spares the caller and PID 1.
    assert_eq!(run(code).printed(), "spared\n");
    // What a descriptor's owner gets of the kernel names no sender.
    let code = "import fcntl, os, signal, sys\nr, w = os.pipe()\ntry:\n    fcntl.fcntl(r, fcntl.F_SETOWN, 1)\n    \
                fcntl.fcntl(r, 10, signal.SIGTERM)\n    fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\n    \
                os.write(w, b'x')\nexcept OSError: pass\nimport time; time.sleep(0.2)\nprint('still here')";
    assert_eq!(run(code).printed(), "still here\n");
    assert_eq!(
        run_in(Start::default().without_landlock(), &request(code)).printed(),
        "still here\n"
    );
}

#[test]
fn a_flood_of_signals_from_inside_hides_none_from_outside() {
    // One pending SIGTERM swallows the next, and without Landlock's scope only the filter stands in the way.
    let code = "
import fcntl, os, signal
for _ in range(3):
    if os.fork() == 0: break
r, w = os.pipe()
try: fcntl.fcntl(r, fcntl.F_SETOWN, 1); fcntl.fcntl(r, 10, signal.SIGTERM); fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
except OSError: pass
threads = [int(t) for t in os.listdir('/proc/1/task')]
print('floods', flush=True)
while True:
    os.write(w, b'x'); os.read(r, 1)
    for t in threads:
        try: os.kill(t, signal.SIGTERM)
        except OSError: pass
";
    for _ in 0..5 {
        let mut runner = Start::default().without_landlock().start();
        runner.request(&request(code));
        runner.printed("floods");
        runner.signal(Signal::TERM);
        assert_eq!(runner.result().result.ended, Ended::Terminated);
    }
}

#[test]
fn when_memory_runs_out_the_kernel_takes_the_program_and_not_the_runner() {
    let ran = run("for pid in ('self', '1'): print(open(f'/proc/{pid}/oom_score_adj').read().strip())");
    let scores = ran.printed();
    let (program, runner) = scores.trim().split_once('\n').expect("two lines");
    assert_eq!(program, "1000");
    assert_ne!(runner, "1000");
}

#[test]
fn orphans_that_end_faster_than_they_are_reaped_hold_up_no_deadline() {
    let code = "import os\nwhile True:\n    try:\n        if os.fork() == 0:\n            if os.fork() == 0: os._exit(0)\n            \
                os._exit(0)\n    except OSError: pass";
    let ran = run_request(&Request {
        timeout_ms: 1000,
        ..request(code)
    });
    assert_eq!(ran.result.ended, Ended::DeadlineExceeded);
    assert!(ran.result.run_ms < 3000, "{:?}", ran.result);
}

#[test]
fn no_descriptor_but_the_standard_ones_is_open() {
    let code = "import os\nfor fd in range(3, 4096):\n    try: os.fstat(fd)\n    except OSError: continue\n    print(fd)\nprint('none')";
    assert_eq!(run(code).printed(), "none\n");
}

#[test]
fn the_environment_is_what_is_listed() {
    let ran = run(
        "import os\nprint(sorted(os.environ))\nprint(sorted(l.split('=')[0] for l in open('/proc/self/environ').read().split('\\0') if l))",
    );
    let listed = "['HOME', 'LANG', 'MPLBACKEND', 'PATH']\n";
    assert_eq!(ran.printed(), listed.repeat(2));
}

#[test]
fn there_is_no_network_of_any_kind() {
    nothing_succeeds(
        "import socket
for family in [f for f in range(47) if f != socket.AF_UNIX]:
    for kind in (1, 2, 3, 5):
        attempt(('socket', family, kind), lambda: call(41 if os.uname().machine == 'x86_64' else 198, family, kind, 0))
        attempt(('pair', family, kind), lambda: socket.socketpair(family, kind))
attempt('create_connection', lambda: socket.create_connection(('1.1.1.1', 443), 1))
attempt('ipv6', lambda: socket.create_connection(('2606:4700:4700::1111', 443), 1))
attempt('dns', lambda: socket.getaddrinfo('example.com', 80))
attempt('listen', lambda: socket.create_server(('127.0.0.1', 8080)))
attempt('upper half', lambda: call(41, (1 << 32) | 2, 1, 0) if os.uname().machine == 'x86_64' else 1/0)",
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn dangerous_calls_are_refused_whatever_the_kernel_would_say() {
    let attempts = "
import errno
calls = dict(ptrace=101, process_vm_readv=310, process_vm_writev=311, process_madvise=440, pidfd_getfd=438, kcmp=312,
    io_uring_setup=425, bpf=321, perf_event_open=298, userfaultfd=323, keyctl=250, add_key=248, request_key=249,
    unshare=272, setns=308, mount=165, umount2=166, pivot_root=155, chroot=161, open_tree=428, move_mount=429,
    fsopen=430, fsmount=432, mount_setattr=442, syslog=103, kexec_load=246, init_module=175, finit_module=313,
    delete_module=176, swapon=167, swapoff=168, reboot=169, acct=163, quotactl=179, name_to_handle_at=303,
    open_by_handle_at=304, iopl=172, ioperm=173, personality=135, memfd_secret=447, pidfd_send_signal=424)
for name, number in calls.items():
    try: call(number, 1, 1, 1, 1, 1, 1)
    except OSError as e:
        if e.errno == errno.EPERM: continue
        print(name, e.errno)
    else: print(name, 'succeeded')
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    try: call(56, flag | 17, 0, 0, 0, 0)
    except OSError as e:
        if e.errno == errno.EPERM: continue
    print('clone', hex(flag))
try: call(435, 0, 0)
except OSError as e: print('clone3', e.errno == errno.ENOSYS)
try: call(0x40000000 + 41, 2, 1, 0)
except OSError as e: print('x32', e.errno == errno.EPERM)
print(libc.personality(ctypes.c_ulong(0xffffffff)))
";
    assert_eq!(
        run(&format!("{ATTEMPT}{attempts}")).printed(),
        "clone3 True\nx32 True\n0\n"
    );
    assert_eq!(
        run_in(Start::default().root(), &request(&format!("{ATTEMPT}{attempts}"))).printed(),
        "clone3 True\nx32 True\n0\n"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_old_system_call_gate_ends_the_program() {
    // mov eax, 20 (getpid of i386); int 0x80; ret
    let code = "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n\
                f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint(f())";
    let ran = run(code);
    assert_eq!((ran.signal(), ran.stdout.as_str()), (31, ""));
}

#[test]
fn writes_end_at_the_work_and_temporary_directories() {
    let attempts = "
for path in ('/usr/x', '/etc/x', '/x', '/runner', '/dev/x', '/proc/self/comm', '/proc/self/oom_score_adj', '/proc/sysrq-trigger', '/usr/bin/python3'):
    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)))
attempt('device', lambda: os.mknod('/tmp/n', 0o020666, os.makedev(1, 3)))
for path in ('/dev/kmsg', '/dev/mem', '/proc/kcore'):
    attempt(path, lambda: open(path, 'rb').read(1))
for path in ('/tmp/y', '/code/y', '/dev/shm/y'):
    open(path, 'w').close()
print('all tried')";
    for start in [Start::default(), Start::default().root()] {
        assert_eq!(
            run_in(start, &request(&format!("{ATTEMPT}{attempts}"))).printed(),
            "all tried\n"
        );
    }
}

#[test]
fn a_fork_bomb_is_over_at_its_deadline_at_the_latest() {
    let ran = run_request(&Request {
        timeout_ms: 1500,
        ..request("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    });
    assert_eq!(ran.result.ended, Ended::DeadlineExceeded);
    assert!(ran.result.run_ms < 4000, "{:?}", ran.result);
}

#[test]
fn where_the_kernel_counts_no_processes_the_runner_does() {
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: only of root's processes the kernel counts none");
        return;
    }
    let bomb = Request {
        timeout_ms: 8000,
        ..request("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    };
    let ran = run_in(Start::default().by_invoker(), &bomb);
    assert_eq!(ran.result.ended, Ended::TooManyProcesses { most: 200 });
    assert!(ran.result.run_ms < 4000, "{:?}", ran.result);
    let threads =
        "import threading\nfor _ in range(1000): threading.Thread(target=threading.Event().wait).start()";
    let ran = run_in(Start::default().by_invoker(), &request(threads));
    assert_eq!(ran.result.ended, Ended::TooManyProcesses { most: 200 });
}

#[test]
fn resources_run_out_with_an_error() {
    let ran = run(&format!(
        "{ATTEMPT}
import errno, resource, threading
def error(act):
    try: act()
    except OSError as e: return errno.errorcode[e.errno]
    except RuntimeError as e: return str(e)
print(error(lambda: [os.open('/dev/null', 0) for _ in range(100_000)]))
os.closerange(3, 2000)
print(error(lambda: os.truncate(os.open('big', os.O_CREAT | os.O_WRONLY), 10 << 40)))
def fill():
    with open('/tmp/full', 'wb') as f:
        while True: f.write(bytes(1 << 20))
print(error(fill))
print(error(lambda: [threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(1000)]))
print(resource.getrlimit(resource.RLIMIT_CORE))
"
    ));
    assert_eq!(
        ran.printed(),
        "EMFILE\nEFBIG\nENOSPC\ncan't start new thread\n(0, 0)\n"
    );
}

#[test]
fn closing_everything_it_has_is_the_program_s_own_affair() {
    let code = "import os\nprint('before', flush=True)\nos.closerange(0, 5000)\nos._exit(0)";
    assert_eq!(run(code).printed(), "before\n");
}

#[test]
fn its_own_monkey_patches_change_nothing_outside() {
    let code = "import json, sys, os, builtins\nprint('kept')\njson.dumps = sys.exit = builtins.print = None\n\
                sys.modules.clear()\nsys.stderr = sys.stdout = None\nraise SystemExit(5)";
    let ran = run(code);
    assert_eq!((ran.code(), ran.stdout.as_str()), (5, "kept\n"));
}
