//! A runner that is kept: each program comes to a sandbox in which nobody was before.

mod common;

use std::fs;

use codeexec_runner::frames::{Ended, FromRunner, Ready, Request, RequestFile, RunResult, Started, ToRunner};
use common::{Runner, Start, has_landlock, request_of, scratch_file};
use rustix::process::Signal;

/// Prints all that a program can see of its surroundings, but for what differs from one process to the next.
const LOOK: &str = r#"
import builtins, os, sys
first = sorted(sys.modules)
import gc, resource, signal
for top in ('/code', '/tmp', '/dev/shm'):
    at = os.stat(top)
    print(top, oct(at.st_mode), at.st_uid, os.listxattr(top), sorted(os.listdir(top)))
for folder, folders, files in os.walk('/dev/shm'): print(folder, sorted(folders), sorted(files))
print(os.getcwd(), sorted(os.environ.items()), oct(os.umask(0o22)), os.nice(0), os.sched_getaffinity(0), os.sched_getscheduler(0))
print([resource.getrlimit(number) for number in range(16)])
print(first, sorted(vars(builtins)), print.__module__, sys.path, sys.argv, sys.flags, sys.getrecursionlimit())
print([(s, signal.getsignal(s)) for s in signal.Signals], signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(0))
wanted = ('Seccomp', 'NoNewPrivs', 'Cap', 'Uid', 'Gid', 'Groups', 'Threads', 'SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt')
print([line for line in open('/proc/self/status').read().splitlines() if line.startswith(wanted)])
print(sorted(int(pid) for pid in os.listdir('/proc') if pid.isdigit() and int(pid) != os.getpid()))
print(sorted(fd for fd in range(1000) if os.path.exists(f'/proc/self/fd/{fd}')), open('/proc/net/unix').read())
print([open(f'/proc/sysvipc/{kind}').read() for kind in ('shm', 'sem', 'msg')])
import socket
for act in (lambda: open('/dev/x', 'w'), lambda: socket.socket(), lambda: os.kill(1, 15)):
    try: print('SUCCEEDED', act())
    except Exception as error: print(error)
print(open('/proc/self/oom_score_adj').read(), os.getpriority(os.PRIO_PROCESS, 0), gc.isenabled(), sys.stdin.read())
"#;

/// What a program leaves that wants to be remembered.
const SPOIL: &str = r#"
import array, builtins, ctypes, json, multiprocessing.shared_memory, os, random, resource, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)

# Whatever can be in a folder, and on it.
for top in ('/code', '/tmp', '/dev/shm'):
    os.makedirs(f'{top}/a/b/c/d')
    open(f'{top}/a/b/c/d/file', 'w').write('left behind')
    open(os.fsencode(top) + b'/\xff\xfe \n\x01 odd', 'w').close()
    open(f'{top}/{"n" * 255}', 'w').close()
    open(f'{top}/.hidden', 'w').close()
    os.mkfifo(f'{top}/fifo')
    socket.socket(socket.AF_UNIX).bind(f'{top}/socket')
    for name, target in (('to-file', '/etc/passwd'), ('to-folder', '/usr'), ('to-nothing', '/nowhere'), ('to-itself', 'to-itself'), ('up', '..')):
        os.symlink(target, f'{top}/{name}')
        os.symlink(target, f'{top}/a/b/{name}')
    os.link(f'{top}/.hidden', f'{top}/a/hard')
    os.truncate(os.open(f'{top}/sparse', os.O_CREAT | os.O_WRONLY), 1 << 30)
    for closed in (f'{top}/closed/within/closed', f'{top}/readable'):
        os.makedirs(closed)
        open(f'{closed}/file', 'w').close()
    os.chmod(f'{top}/closed/within/closed', 0)
    os.chmod(f'{top}/closed/within', 0o111)
    os.chmod(f'{top}/closed', 0)
    os.chmod(f'{top}/readable', 0o444)
    os.mkdir(f'{top}/many')
    for number in range(3000): os.close(os.open(f'{top}/many/{number}', os.O_CREAT))
    # Deeper than any path can name.
    os.chdir(top)
    for _ in range(3000):
        os.mkdir('deep')
        os.chdir('deep')
    try:
        os.setxattr(top, 'user.left', b'behind')
        # An access list, and the same for all that is made in the folder.
        entries = [(1, 7, -1), (2, 7, os.getuid()), (4, 7, -1), (0x10, 7, -1), (0x20, 7, -1)]
        acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *entry) for entry in entries)
        os.setxattr(top, 'system.posix_acl_default', acl)
        os.setxattr(top, 'system.posix_acl_access', acl)
    except OSError as error: print('attributes:', error, file=sys.stderr)
    for mode in (0o777, 0o000):
        try: os.chmod(top, mode)
        except OSError as error: print('mode:', error, file=sys.stderr)

# What is no file.
kept = multiprocessing.shared_memory.SharedMemory('kept', True, 1 << 16) if os.access('/dev/shm', os.W_OK) else None
listener = socket.socket(socket.AF_UNIX)
listener.bind('\0abstract')
listener.listen()
# Sockets that hold each other, and no process them.
left, right = socket.socketpair()
left.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [left.fileno(), right.fileno(), listener.fileno()]))])
right.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [left.fileno(), right.fileno(), listener.fileno()]))])
for call in (lambda: libc.shmget(7, 4096, 0o1600), lambda: libc.semget(7, 1, 0o1600), lambda: libc.msgget(7, 0o1600),
             lambda: libc.mq_open(b'/queue', os.O_CREAT | os.O_RDWR, 0o600, None)):
    if call() != -1: print('SUCCEEDED', ctypes.get_errno())

# The process itself.
os.environ['LEFT'] = 'behind'
os.umask(0)
os.nice(5)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK, resource.RLIMIT_AS):
    resource.setrlimit(limit, (50 if limit == resource.RLIMIT_NOFILE else 1 << 33,) * 2)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
signal.setitimer(signal.ITIMER_REAL, 1000)
builtins.print, builtins.left = (lambda *_: None), 'behind'
sys.modules['left'] = sys.modules['json'] = sys
sys.path.insert(0, '/tmp')
sys.setrecursionlimit(77777)

# And its children, who got away from it, some with an ignored SIGTERM, one stopped.
for number in range(8):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if number == 7: os.kill(os.getpid(), signal.SIGSTOP)
            if number == 6: os.execv('/bin/sleep', ['sleep', '1000'])
            while True:
                try: os.write(1, b'still here\n')
                except OSError: pass
        os._exit(0)
os.write(1, b'spoilt\n')
"#;

fn spoilt_and_looked_at(runner: &mut Runner) {
    let look = |uid: &str| Request {
        stdin: "its own".to_owned(),
        ..request_of(uid, LOOK)
    };
    runner.ready(0);
    let before = runner.serve(&look("before"));
    for round in 0..2 {
        runner.ready(2 * round + 1);
        let mut spoil = request_of(&format!("spoil {round}"), SPOIL);
        spoil.stdin = "unread".repeat(100_000);
        let spoilt = runner.serve(&spoil);
        assert_eq!(
            spoilt.result.ended,
            Ended::Exited { code: 0 },
            "{}",
            spoilt.stderr
        );
        assert!(!spoilt.stdout.contains("SUCCEEDED"), "{}", spoilt.stdout);
        assert!(spoilt.stdout.starts_with("spoilt\n") || spoilt.stdout.contains("still here\n"));
        runner.ready(2 * round + 2);
        let after = runner.serve(&look(&format!("after {round}")));
        assert_eq!(after.stderr, "");
        assert!(!after.stdout.contains("SUCCEEDED"), "{}", after.stdout);
        for (before, after) in before.stdout.lines().zip(after.stdout.lines()) {
            assert_eq!(before, after);
        }
        assert_eq!(before.stdout, after.stdout);
    }
}

#[test]
fn nothing_that_a_program_leaves_is_there_for_the_next() {
    if has_landlock() {
        spoilt_and_looked_at(&mut Start::default().start());
    }
}

#[test]
fn nothing_is_left_where_the_folders_are_links_as_in_the_image() {
    if has_landlock() {
        spoilt_and_looked_at(&mut Start::default().linked().start());
    }
}

#[test]
fn nothing_is_left_of_a_program_of_root_s() {
    if has_landlock() {
        spoilt_and_looked_at(&mut Start::default().root().start());
    }
}

#[test]
fn a_runner_that_is_kept_serves_the_next_request_afresh() {
    if !has_landlock() {
        return;
    }
    let mut runner = Start::default().start();
    let first = runner.ready(0);
    let program = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)";
    let ran = runner.serve(&request_of("first", program));
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str(), ran.code()),
        ("out\n", "err\n", 3)
    );
    // The same report, but for how often it served.
    let second = runner.ready(1);
    assert_eq!(Ready { served: 0, ..second }, first);
    let ran = runner.serve(&request_of(
        "second",
        "import os\nprint('killed', flush=True)\nos.kill(os.getpid(), 9)",
    ));
    assert_eq!((ran.stdout.as_str(), ran.signal()), ("killed\n", 9));
    runner.ready(2);
    // At its deadline it is the program's end as well.
    let ran = runner.serve(&Request {
        timeout_ms: 300,
        ..request_of("third", "while True: pass")
    });
    assert_eq!(ran.result.ended, Ended::DeadlineExceeded);
    assert!((300..2000).contains(&ran.result.run_ms), "{:?}", ran.result);
    runner.ready(3);
    // Not to be kept any longer.
    runner.transcript_of("last");
    runner.request(&request_of("last", "print('last')"));
    assert_eq!(runner.result().printed(), "last\n");
}

#[test]
fn what_is_reported_of_a_program_is_its_own() {
    if !has_landlock() {
        return;
    }
    let counter = scratch_file("counter-of-several");
    fs::write(&counter, "oom_kill 0\n").expect("a file of one's own");
    let host = counter.to_str().expect("cargo's paths are text");
    let mut runner = Start::default()
        .bwrap(&["--ro-bind", host, "/sys/fs/cgroup/memory.events"])
        .start();
    runner.ready(0);
    let greedy = "import os, time\nx = bytearray(100_000_000)\nend = time.process_time() + 0.5\n\
                  while time.process_time() < end: pass\nos.system('true')\n\
                  while open('/sys/fs/cgroup/memory.events').read() != 'oom_kill 1\\n': time.sleep(0.01)\nos.kill(os.getpid(), 9)";
    runner.transcript_of("greedy");
    runner.request(&Request {
        keep: true,
        ..request_of("greedy", greedy)
    });
    assert!(matches!(runner.next(), Some(FromRunner::Started(_))));
    fs::write(&counter, "oom_kill 1\n").expect("a file of one's own");
    let greedy = runner.served();
    runner.ready(1);
    let modest = runner.serve(&request_of("modest", "import os\nos.kill(os.getpid(), 9)"));
    assert!(greedy.result.oom_killed && !modest.result.oom_killed);
    assert!(greedy.result.peak_memory_bytes > 100 << 20, "{:?}", greedy.result);
    assert!(modest.result.peak_memory_bytes < 50 << 20, "{:?}", modest.result);
    assert!(greedy.result.cpu_ms >= 500, "{:?}", greedy.result);
    assert!(modest.result.cpu_ms < 300, "{:?}", modest.result);
}

#[test]
fn what_was_served_does_not_run_again() {
    if !has_landlock() {
        return;
    }
    let mut runner = Start::default().start();
    runner.ready(0);
    let first = request_of("first", "print('ran')");
    runner.serve(&first);
    runner.ready(1);
    runner.request(&first);
    runner.send(&ToRunner::Hello);
    // Nothing comes between: the repeat was not answered.
    assert!(matches!(runner.next(), Some(FromRunner::Ready(ready)) if ready.served == 1));
    let second = request_of("second", "print('ran', flush=True)\nimport time\ntime.sleep(100)");
    runner.transcript_of("second");
    runner.request(&second);
    runner.printed("ran");
    runner.request(&first);
    runner.request(&second);
    let repeat = Started {
        uid: second.uid.clone(),
    };
    assert_eq!(runner.next(), Some(FromRunner::Started(repeat)));
    runner.signal(Signal::TERM);
    assert_eq!(runner.result().stdout, "ran\n");
}

#[test]
fn a_request_that_comes_before_ready_is_served_after_it() {
    if !has_landlock() {
        return;
    }
    let mut runner = Start::default().start();
    runner.ready(0);
    runner.serve(&request_of("first", "pass"));
    let ran = runner.serve(&request_of("second", "print('second')"));
    assert_eq!((ran.ready.served, ran.printed().as_str()), (1, "second\n"));
}

#[test]
fn fifty_programs_leave_no_descriptor_and_no_memory_behind() {
    if !has_landlock() {
        return;
    }
    let mut runner = Start::default().start();
    let mut after = Vec::new();
    for number in 0..50 {
        runner.ready(number);
        after.push((runner.descriptors(), runner.resident_kilobytes()));
        let ran = runner.serve(&request_of(
            &format!("program {number}"),
            &format!("print({number})"),
        ));
        assert_eq!(ran.printed(), format!("{number}\n"));
    }
    let (descriptors, resident) = after[10];
    let (descriptors_now, resident_now) = after[49];
    assert!(resident_now < resident + 512, "{after:?}");
    if descriptors.is_none() {
        eprintln!("SKIPPED: only root sees the descriptors of a process that is not dumpable");
    }
    assert_eq!(descriptors_now, descriptors, "{after:?}");
}

#[test]
fn modules_are_preloaded_for_each_program() {
    if !has_landlock() {
        return;
    }
    let mut runner = Start::default().flag("--preload=this,decimal").start();
    for (round, uid) in (0..).zip(["first", "second"]) {
        runner.ready(round);
        let look =
            "import sys\nprint('decimal' in sys.modules, 'left' in sys.modules)\nsys.modules['left'] = sys";
        assert_eq!(runner.serve(&request_of(uid, look)).printed(), "True False\n");
    }
}

#[test]
fn an_idle_runner_that_has_served_goes_at_once_when_it_is_told_to() {
    if !has_landlock() {
        return;
    }
    let log = scratch_file("termination-log-of-several");
    let path = log.to_str().expect("cargo's paths are text");
    let mut runner = Start::default()
        .bwrap(&["--bind", path, "/dev/termination-log"])
        .start();
    runner.ready(0);
    let first = runner.serve(&request_of("first", "print(1)")).result;
    let left =
        |log| serde_json::from_str::<RunResult>(&fs::read_to_string(log).expect("the runner wrote it"));
    runner.ready(1);
    assert_eq!(left(&log).expect("a result"), first);
    // Not for the next one's eyes.
    let read = "print(open('/dev/termination-log').read())";
    let second = runner.serve(&request_of("second", read));
    assert_eq!(second.stdout, "\n");
    runner.ready(2);
    runner.signal(Signal::TERM);
    let gone = runner.ended();
    assert_eq!(gone.exit_code, Some(143));
    assert_eq!(left(&log).expect("a result"), second.result);
}

#[test]
fn a_stop_at_the_end_of_a_program_is_not_lost() {
    if !has_landlock() {
        return;
    }
    for _ in 0..20 {
        let mut runner = Start::default().start();
        runner.transcript_of("first");
        runner.request(&Request {
            keep: true,
            ..request_of("first", "import os\nos.write(1, b'over')\nos._exit(0)")
        });
        runner.printed("over");
        // Whether it comes before the program's end, in the middle of what follows that, or after.
        runner.signal(Signal::TERM);
        assert_eq!(runner.ended().exit_code, Some(143));
    }
}

#[test]
fn a_runner_that_can_t_clean_up_is_not_kept() {
    // What is mounted there stays.
    let mut runner = Start::default()
        .bwrap(&["--ro-bind", "/usr/bin/true", "/tmp/stays"])
        .start();
    runner.ready(0);
    runner.serve(&request_of("first", "print(1)"));
    let gone = runner.ended();
    assert_eq!(
        (gone.exit_code, gone.ready.map(|ready| ready.served)),
        (Some(0), Some(0))
    );
}

#[test]
fn without_landlock_no_runner_is_kept() {
    let mut runner = Start::default().without_landlock().start();
    runner.ready(0);
    assert_eq!(runner.serve(&request_of("first", "print(1)")).printed(), "1\n");
    assert_eq!(runner.ended().exit_code, Some(0));
}

#[test]
fn a_runner_that_failed_is_not_kept() {
    let mut runner = Start::default().start();
    runner.ready(0);
    let ran = runner.serve(&Request {
        files: vec![RequestFile {
            path: "..".to_owned(),
            content: String::new(),
        }],
        ..request_of("first", "print(1)")
    });
    assert!(
        matches!(ran.result.ended, Ended::Failed { .. }),
        "{:?}",
        ran.result
    );
    assert_eq!(runner.ended().exit_code, Some(70));
}
