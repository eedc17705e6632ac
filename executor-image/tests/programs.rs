//! What a program sees and what becomes of it: as a script of its own, with its exit told exactly.

mod common;

use std::time::{Duration, Instant};

use codeexec_runner::frames::{Ended, OutputLimits, Request, RequestFile};
use common::{Start, request, run, run_in, run_request};

#[test]
fn what_is_printed_comes_back() {
    let ran = run("import json, sys\nprint(json.dumps({'a': [1, 2]}))\nprint('err', file=sys.stderr)");
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str(), ran.code()),
        ("{\"a\": [1, 2]}\n", "err\n", 0)
    );
    assert_eq!(
        (
            ran.result.stdout.bytes,
            ran.result.stdout.truncated,
            ran.result.oom_killed
        ),
        (14, false, false)
    );
    assert!(ran.result.peak_memory_bytes > 1 << 20);
}

#[test]
fn a_traceback_has_the_user_s_own_lines_only() {
    let ran = run("def f(x):\n    raise ValueError('no ' + x)\n\nf('good')\n");
    assert_eq!(
        ran.stderr,
        "Traceback (most recent call last):\n  File \"main.py\", line 4, in <module>\n    f('good')\n  \
         File \"main.py\", line 2, in f\n    raise ValueError('no ' + x)\nValueError: no good\n"
    );
    assert_eq!(ran.code(), 1);
}

#[test]
fn a_traceback_shows_the_program_even_if_its_file_was_replaced() {
    let ran = run("open('main.py', 'w').write('1\\n2\\n')\nraise ValueError('x')");
    assert!(
        ran.stderr.contains("    raise ValueError('x')\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_chained_traceback_has_no_line_of_the_bootstrap() {
    let ran = run("try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e");
    assert!(
        ran.stderr.contains("direct cause") && !ran.stderr.contains("<string>"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_thread_s_traceback_has_its_lines_too() {
    let ran = run(
        "import threading\ndef f():\n    raise ValueError('x')\nt = threading.Thread(target=f)\nt.start()",
    );
    assert!(
        ran.stderr.contains("    raise ValueError('x')\nValueError: x"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_hook_of_the_program_s_own_gets_its_exception() {
    let code = "import sys, traceback\nsys.excepthook = lambda k, e, t: print('hook', e, traceback.extract_tb(t))\n1/0";
    let ran = run(code);
    assert_eq!(
        ran.stdout,
        "hook division by zero [<FrameSummary file main.py, line 3 in <module>>]\n"
    );
    assert_eq!((ran.stderr.as_str(), ran.code()), ("", 1));
}

#[test]
fn a_syntax_error_is_shown_as_python_shows_it() {
    let ran = run("x = (1,\nprint('a'");
    assert!(
        ran.stderr
            .starts_with("  File \"main.py\", line 2\n    print('a'\n"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("SyntaxError: "), "{}", ran.stderr);
    assert_eq!(ran.code(), 1);
}

#[test]
fn exit_codes_are_python_s() {
    let code = |program: &str| run(&format!("import os, sys\n{program}")).code();
    assert_eq!(code("sys.exit()"), 0);
    assert_eq!(code("sys.exit(3)"), 3);
    assert_eq!(code("sys.exit(256)"), 0);
    assert_eq!(code("sys.exit(-1)"), 255);
    assert_eq!(code("sys.exit(2**70)"), 255);
    assert_eq!(code("import atexit; atexit.register(os._exit, 7)"), 7);
    assert_eq!(code("os.closerange(0, 100)\nprint('lost')"), 120);
    let ran = run("import sys; sys.exit('msg')");
    assert_eq!((ran.stderr.as_str(), ran.code()), ("msg\n", 1));
    let ran = run("print('\\ud800')");
    assert!(ran.stderr.contains("UnicodeEncodeError"), "{}", ran.stderr);
    assert_eq!(ran.code(), 1);
    let ran = run("print('kept'); import os; os._exit(0)");
    assert_eq!((ran.stdout.as_str(), ran.code()), ("kept\n", 0));
    assert_eq!(run("import sys; sys.stdout.close()").code(), 0);
}

#[test]
fn signals_are_told_by_number() {
    let signal = |program: &str| run(&format!("import os\n{program}")).signal();
    assert_eq!(signal("os.kill(os.getpid(), 9)"), 9);
    assert_eq!(signal("import ctypes; ctypes.string_at(0)"), 11);
    assert_eq!(signal("raise KeyboardInterrupt"), 2);
    let ran = run("import os\nos.kill(os.getpid(), 2)\nimport time; time.sleep(9)");
    assert_eq!(ran.signal(), 2);
    assert!(ran.stderr.ends_with("KeyboardInterrupt\n"), "{}", ran.stderr);
    assert!(!run("import os; os.kill(os.getpid(), 9)").result.oom_killed);
}

#[test]
fn what_the_supervisor_ignores_is_not_ignored_in_the_program() {
    let ran = run(
        "import signal\nprint([s.name for s in signal.Signals if signal.getsignal(s) == signal.SIG_IGN])",
    );
    // Python ignores these two by itself.
    assert_eq!(ran.stdout, "['SIGPIPE', 'SIGXFSZ']\n");
}

#[test]
fn recursion_without_end_is_an_error() {
    let ran = run("def f(): f()\nf()");
    assert!(
        ran.stderr.contains("RecursionError") && ran.stderr.contains("more times]"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code(), 1);
}

#[test]
fn a_program_runs_to_its_deadline_and_not_beyond() {
    for program in [
        "print('so far')\nwhile True: pass",
        "print('so far')\nimport signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1e6)",
        "print('so far')\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        "print('so far')\nimport os\nos.execv('/bin/sleep', ['sleep', '100'])",
        "print('so far')\nimport atexit, time\natexit.register(time.sleep, 100)",
        "print('so far')\nimport threading, time\nthreading.Thread(target=time.sleep, args=[100]).start()",
    ] {
        let start = Instant::now();
        let ran = run_request(&Request {
            timeout_ms: 1000,
            ..request(program)
        });
        assert_eq!(ran.result.ended, Ended::DeadlineExceeded, "{program}");
        assert_eq!(ran.stdout, "so far\n", "{program}");
        assert!(
            (1000..2000).contains(&ran.result.run_ms),
            "{program}: {}",
            ran.result.run_ms
        );
        assert!(start.elapsed() < Duration::from_secs(4), "{program}");
    }
}

#[test]
fn a_daemon_that_was_left_behind_delays_nothing() {
    let code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(100)\n    os._exit(0)\nprint('done')";
    let start = Instant::now();
    assert_eq!(run(code).printed(), "done\n");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn input_arguments_environment_and_files_are_the_request_s() {
    let file = |path: &str, content: &str| RequestFile {
        path: path.to_owned(),
        content: content.to_owned(),
    };
    let ran = run_request(&Request {
        stdin: "first\nsecond".to_owned(),
        args: vec!["a b".to_owned(), "é".to_owned()],
        env: vec![("NAME".to_owned(), "va=lue".to_owned())],
        files: vec![file("data/x.bin", "AAH/"), file("helper.py", "QSA9IDQyCg==")],
        ..request(
            "import os, sys, helper, subprocess\n\
             print(sys.argv, input(), input(), os.environ['NAME'], helper.A)\n\
             print(list(open('data/x.bin', 'rb').read()), os.getcwd(), __name__, __file__, sys.path[0])\n\
             print(subprocess.check_output(['printenv', 'NAME'], text=True), sorted(os.listdir('.')))",
        )
    });
    assert_eq!(
        ran.printed(),
        "['main.py', 'a b', 'é'] first second va=lue 42\n[0, 1, 255] /code __main__ /code/main.py /code\n\
         va=lue\n ['data', 'helper.py', 'main.py', 'out']\n"
    );
}

#[test]
fn without_input_there_is_an_end_of_file() {
    let ran = run("input()");
    assert!(
        ran.stderr.ends_with("EOFError: EOF when reading a line\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn more_input_than_a_pipe_holds_arrives() {
    let ran = run_request(&Request {
        stdin: "x".repeat(300_000),
        ..request("import sys, time\nprint(len(sys.stdin.read()))")
    });
    assert_eq!(ran.printed(), "300000\n");
    let unread = Request {
        stdin: "x".repeat(300_000),
        ..request("print('not interested')")
    };
    assert_eq!(run_request(&unread).printed(), "not interested\n");
}

#[test]
fn a_file_that_can_t_be_written_is_not_the_program_s_failure() {
    for path in ["../x", "/etc/x", "a//b", ""] {
        let files = vec![RequestFile {
            path: path.to_owned(),
            content: String::new(),
        }];
        let ran = run_request(&Request {
            files,
            ..request("print('ran')")
        });
        let Ended::Failed { message } = &ran.result.ended else {
            panic!("{ran:?}")
        };
        assert!(message.contains("is not below the work directory"), "{message}");
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn the_program_s_namespace_is_a_script_s() {
    let ran = run(
        "print(sorted(globals()), __spec__, __package__)\nimport __main__\nprint(__main__.__dict__ is globals())",
    );
    assert_eq!(
        ran.printed(),
        "['__annotations__', '__builtins__', '__cached__', '__doc__', '__file__', '__loader__', '__name__', \
         '__package__', '__spec__'] None None\nTrue\n"
    );
}

#[test]
fn source_is_text_whatever_it_says_of_its_coding() {
    assert_eq!(run("# coding: utf-7\nprint('+AGE-é')").printed(), "+AGE-é\n");
    assert_eq!(run("\u{feff}print('after a mark')").printed(), "after a mark\n");
    assert_eq!(run("print(1)\rprint(2)\r\nprint(3)").printed(), "1\n2\n3\n");
    let ran = run("print(1)\0");
    assert!(
        ran.stderr.contains("null bytes") && !ran.stderr.contains("<string>"),
        "{}",
        ran.stderr
    );
}

#[test]
fn output_is_kept_to_its_last_byte_and_cut_at_the_next() {
    let limits = OutputLimits {
        bytes: 1000,
        encoded_bytes: 100_000,
    };
    let ran = run_request(&Request {
        limits,
        ..request("import sys; sys.stdout.write('x' * 1000)")
    });
    assert_eq!(
        (
            ran.stdout.len(),
            ran.result.stdout.truncated,
            ran.result.stdout.bytes
        ),
        (1000, false, 1000)
    );
    let ran = run_request(&Request {
        limits,
        ..request("import sys; sys.stdout.write('x' * 1001)")
    });
    assert_eq!(
        (
            ran.stdout.len(),
            ran.result.stdout.truncated,
            ran.result.stdout.bytes
        ),
        (1000, true, 1001)
    );
}

#[test]
fn output_that_encodes_badly_stays_within_its_bound() {
    for (program, encoded) in [
        ("print('\\0' * 10**6, end='')", 6),
        ("print('<' * 10**6, end='')", 6),
    ] {
        let ran = run(program);
        assert_eq!(ran.stdout.len(), 900_000 / encoded, "{program}");
        assert_eq!(
            (ran.result.stdout.bytes, ran.result.stdout.truncated),
            (1_000_000, true),
            "{program}"
        );
    }
}

#[test]
fn endless_output_is_drained_until_the_deadline() {
    let ran = run_request(&Request {
        timeout_ms: 1000,
        ..request("while True: print('y' * 1000)")
    });
    assert_eq!(ran.result.ended, Ended::DeadlineExceeded);
    assert!(
        ran.stdout.len() > 890_000 && ran.result.stdout.bytes > 1 << 20,
        "{:?}",
        ran.result
    );
}

#[test]
fn a_great_line_on_both_streams_is_counted_and_cut() {
    let ran = run("import sys\nfor s in (sys.stdout, sys.stderr): s.write('z' * 50_000_000)");
    assert_eq!(
        (ran.result.stdout.bytes, ran.result.stderr.bytes),
        (50_000_000, 50_000_000)
    );
    assert!(ran.result.stdout.truncated && ran.result.stderr.truncated);
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let ran = run("import sys\nsys.stdout.buffer.write(bytes(range(256)))");
    assert_eq!(
        ran.stdout,
        String::from_utf8_lossy(&(0..=255).collect::<Vec<u8>>())
    );
}

#[test]
fn ordinary_programs_work() {
    let code = r#"
import asyncio, subprocess, sqlite3, tempfile, threading, multiprocessing, decimal, socket
from concurrent.futures import ThreadPoolExecutor
print(subprocess.run("echo shell", shell=True, capture_output=True, text=True).stdout.strip())
async def main():
    process = await asyncio.create_subprocess_exec("echo", "async", stdout=subprocess.PIPE)
    print((await process.communicate())[0].decode().strip())
asyncio.run(main())
with ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(lambda x: x * x, range(100))))
def double(x): return 2 * x
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(double, [1, 2, 3]))
with sqlite3.connect(tempfile.mktemp()) as db:
    db.execute("create table t (x)"); db.execute("insert into t values (5)")
    print(db.execute("select x from t").fetchall())
with tempfile.TemporaryDirectory() as folder, open(folder + "/f", "w") as file:
    file.write("x")
import os, shutil
os.mkdir("d"); open("d/a", "w").close(); os.rename("d/a", "b"); os.link("b", "c"); shutil.move("c", "/tmp/c")
a, b = socket.socketpair(); a.send(b"pair"); print(b.recv(10))
open("/dev/null", "w").write("x"); print("to stdout", file=open("/dev/stdout", "w"))
x = bytearray(200_000_000); print(len(x))
"#;
    assert_eq!(
        run(code).printed(),
        "shell\nasync\n328350\n[2, 4, 6]\n[(5,)]\nb'pair'\nto stdout\n200000000\n"
    );
}

#[test]
fn processes_that_start_the_program_s_file_anew_find_it() {
    let code = "import multiprocessing\ndef double(x): return 2 * x\nif __name__ == '__main__':\n    \
                with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(double, [4]))";
    assert_eq!(run(code).printed(), "[8]\n");
}

#[test]
fn a_file_of_the_program_s_can_t_shadow_what_python_needs() {
    let shadow = "cmFpc2UgU3lzdGVtRXhpdCg5KQo=";
    let files = [
        "json.py",
        "sitecustomize.py",
        "usercustomize.py",
        "os.py",
        "linecache.py",
    ];
    let files = files.map(|path| RequestFile {
        path: path.to_owned(),
        content: shadow.to_owned(),
    });
    let ran = run_request(&Request {
        files: files.into(),
        ..request("print('ran')")
    });
    assert_eq!(ran.printed(), "ran\n");
}

#[test]
fn preloaded_modules_are_there_and_what_they_print_is_not() {
    let start = Start::default().flag("--preload=this,decimal");
    let ran = run_in(start, &request("import sys\nprint('decimal' in sys.modules)"));
    assert_eq!(ran.printed(), "True\n");
}

#[test]
fn root_of_a_user_namespace_can_do_no_more() {
    let code = "import os\nprint(os.getuid(), open('/proc/self/status').read().split('CapBnd:')[1].split()[0])\n\
                print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapPrm'))])";
    let ran = run_in(Start::default().root(), &request(code));
    assert_eq!(
        ran.printed(),
        "0 0000000000000000\n['0000000000000000', '0000000000000000']\n"
    );
}

#[test]
fn memory_is_bounded_where_no_cgroup_does_it() {
    let bounded = || Start::default().flag("--memory-limit-bytes=134217728");
    let ran = run_in(
        bounded(),
        &request("import time\nx = bytearray(200_000_000)\ntime.sleep(100)"),
    );
    assert_eq!((ran.signal(), ran.result.oom_killed), (9, true));
    let ran = run_in(bounded(), &request("x = bytearray(2 << 30)"));
    assert!(ran.stderr.ends_with("MemoryError\n"), "{}", ran.stderr);
    let shared = "import os, time\nx = bytearray(60_000_000)\nfor _ in range(4):\n    if os.fork() == 0: time.sleep(100)\n\
                  time.sleep(0.3)\nprint('shared memory counts once')";
    assert_eq!(
        run_in(bounded(), &request(shared)).printed(),
        "shared memory counts once\n"
    );
}
