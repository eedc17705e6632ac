//! Modules that were imported before the program: it finds them as if it had imported them itself at its start.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use codeexec_runner::frames::{Request, RequestFile};
use common::{Start, request, run_in, scratch_file};

/// Modules of the standard library that have state of their own, threads or hooks of their users.
const STANDARD: &str = "json, decimal, random, warnings, logging, threading, concurrent.futures, multiprocessing.pool, tempfile, locale";
/// What the image has besides.
const PACKAGES: &str = "numpy, pandas, matplotlib.pyplot";

/// Prints the state of an interpreter. What differs from one to the next comes last, on a line of its own.
const LOOK: &str = "
import sys
names = sorted(sys.modules)
import atexit, gc, locale, os, random, signal, threading, warnings
import __main__
for name in names: print(name)
print(sys.argv, sys.orig_argv[1:], sys.path, sys.flags, sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace())
print(os.getcwd(), sorted(os.environ.items()), sorted(os.listdir()), os.umask(0o22))
print(sorted(globals()), __main__.__dict__ is globals(), __file__, __loader__.get_source('__main__')[:10])
for kind in warnings.filters: print(kind)
print(warnings.onceregistry, [name for name in names if getattr(sys.modules[name], '__warningregistry__', None)])
print([(number, signal.getsignal(number)) for number in signal.Signals], signal.pthread_sigmask(signal.SIG_BLOCK, []))
print([thread.name for thread in threading.enumerate()], threading.main_thread() is threading.current_thread(), len(os.listdir('/proc/self/task')))
print(atexit._ncallbacks(), gc.isenabled(), gc.get_threshold(), gc.callbacks, locale.setlocale(locale.LC_ALL), locale.localeconv())
print(sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)
print([fd for fd in range(1000) if os.path.exists(f'/proc/self/fd/{fd}')], sys.stdin.read())
plt = sys.modules.get('matplotlib.pyplot')
print(plt and (plt.get_fignums(), plt.get_backend(), plt.isinteractive()))
numbers = sys.modules.get('numpy')
print(random.random(), numbers and numbers.random.random(), hash('text'))
";

/// The state that a program finds who imports these by itself, after they were preloaded or not.
fn found(start: Start, modules: &str, is_preloaded: bool) -> (String, String) {
    let names = modules.replace(' ', "");
    let start = if is_preloaded {
        start.flag(format!("--preload={names}"))
    } else {
        start
    };
    let looked = run_in(
        start,
        &Request {
            args: vec!["of its own".to_owned()],
            env: vec![("NAME".to_owned(), "of its own".to_owned())],
            stdin: "of its own".to_owned(),
            ..request(&format!("import {modules}{LOOK}"))
        },
    )
    .printed();
    let (state, chance) = looked.trim_end().rsplit_once('\n').expect("many lines");
    (state.to_owned(), chance.to_owned())
}

fn finds_the_same(start: impl Fn() -> Start, modules: &str) {
    let (itself, its_chance) = found(start(), modules, false);
    let (preloaded, chance) = found(start(), modules, true);
    for (itself, preloaded) in itself.lines().zip(preloaded.lines()) {
        assert_eq!(preloaded, itself);
    }
    assert_eq!(preloaded, itself);
    // Another runner's interpreter draws other numbers.
    let (_, another) = found(start(), modules, true);
    for (one, other) in chance.split(' ').zip(another.split(' ')) {
        assert!(one == "None" || one != other, "{chance} {another}");
    }
    assert_ne!(chance, its_chance);
}

#[test]
fn a_program_finds_the_standard_library_as_if_it_had_imported_it_itself() {
    finds_the_same(Start::default, STANDARD);
}

#[test]
fn a_program_finds_the_packages_as_if_it_had_imported_them_itself() {
    if Start::default().with_packages().is_none() {
        eprintln!("SKIPPED: there is no Python with numpy, pandas and matplotlib in target/python");
        return;
    }
    finds_the_same(|| Start::default().with_packages().unwrap_or_default(), PACKAGES);
}

#[test]
fn the_interpreter_has_no_module_more_than_one_without_a_runner() {
    const NAMES: &str = "import sys; print(*sorted(sys.modules))";
    let plain = Command::new("/usr/bin/python3")
        .args(["-I", "-B", "-c", NAMES])
        .env_clear()
        .envs([("HOME", "/"), ("LANG", "C.UTF-8")])
        .output()
        .expect("these tests need a Python");
    let ran = run_in(Start::default(), &request(NAMES));
    assert_eq!(ran.printed(), String::from_utf8_lossy(&plain.stdout));
}

/// A runner whose interpreter has this module besides its own, if there is a place to put it.
fn with_module(name: &str, source: &str) -> Option<Start> {
    const PLACES: &str = "import os, site; print(*filter(os.path.isdir, site.getsitepackages()), sep='\\n')";
    let places = Command::new("/usr/bin/python3")
        .args(["-I", "-c", PLACES])
        .output()
        .expect("these tests need a Python");
    let Some(place) = String::from_utf8_lossy(&places.stdout)
        .lines()
        .next()
        .map(str::to_owned)
    else {
        eprintln!("SKIPPED: this Python has no folder for packages");
        return None;
    };
    let file = scratch_file(&format!("module-{name}"));
    fs::write(&file, source).expect("a file of one's own");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a file of one's own");
    let host = file.to_str().expect("cargo's paths are text");
    let inside = format!("{place}/{name}.py");
    let start = Start::default().bwrap(&["--tmpfs", &place, "--ro-bind", host, &inside]);
    Some(start.flag(format!("--preload={name}")))
}

#[test]
fn what_a_module_did_when_it_was_imported_is_not_the_program_s() {
    let source = "
import __main__, os, pkgutil, sys, warnings
MAIN, ARGUMENTS, BEFORE = __main__, sys.argv, [*sys.argv]
def warn():
    warnings.warn('always the same')
def warn_once():
    warnings.warn_explicit('only once', UserWarning, 'f', 1)
warnings.filterwarnings('once', message='only once')
warn(); warn(); warn_once()
print('a line')
sys.stdout.write('half a line')
sys.stderr.write('half a line')
# It has looked into the folder, and does not notice what has come there since.
pkgutil.get_importer(os.getcwd()).find_spec = lambda *_: None
";
    let Some(start) = with_module("noisy", source) else {
        return;
    };
    let ran = run_in(
        start,
        &Request {
            args: vec!["argument".to_owned()],
            files: vec![RequestFile {
                path: "helper.py".to_owned(),
                content: "QSA9IDQyCg==".to_owned(),
            }],
            ..request(
                "import helper, noisy, sys\nfor _ in range(3): noisy.warn(); noisy.warn_once()\n\
                 print(noisy.MAIN.__dict__ is globals(), noisy.BEFORE, noisy.ARGUMENTS, sys.argv, helper.A)",
            )
        },
    );
    assert_eq!(
        ran.stdout,
        "True ['main.py'] ['main.py', 'argument'] ['main.py', 'argument'] 42\n"
    );
    let shown = |text: &str| ran.stderr.matches(text).count();
    assert!(!ran.stderr.contains("half a line"), "{}", ran.stderr);
    assert_eq!(
        (
            shown("UserWarning: always the same"),
            shown("UserWarning: only once")
        ),
        (1, 1),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_module_that_leaves_no_way_to_print_can_t_be_preloaded() {
    let Some(start) = with_module("mute", "import sys\nsys.stdout = None") else {
        return;
    };
    let gone = start.start().ended();
    assert_eq!(gone.exit_code, Some(71));
    assert!(
        gone.runner_stderr
            .contains("module mute can't be preloaded: AttributeError"),
        "{}",
        gone.runner_stderr
    );
}

#[test]
fn what_a_program_made_is_finished_at_its_end_as_ever() {
    let code = "
import atexit, decimal, json, logging, os, weakref
class Plain:
    def __del__(self): print('finished')
class Bound:
    def __init__(self): self.own = self
    def __del__(self): print('finished in a circle')
plain, bound = Plain(), Bound()
atexit.register(print, 'at exit')
weakref.finalize(Bound(), print, 'finalized')
copy = open(os.dup(1), 'w')
copy.write('flushed\\n')
";
    // Also where something that was there before holds a function of its own, and with that its names.
    let hooked = format!("{code}\ndef hook(): pass\njson.JSONEncoder.hook = hook\nbound = None");
    for code in [code, &hooked] {
        for flag in ["--preload=", "--preload=json,decimal,logging,weakref"] {
            let printed = run_in(Start::default().flag(flag), &request(code)).printed();
            let mut lines: Vec<&str> = printed.lines().collect();
            lines.sort_unstable();
            let circles = "finished in a circle";
            let expected = ["at exit", "finalized", "finished", circles, circles, "flushed"];
            assert_eq!(lines, expected, "{flag}");
        }
    }
}
