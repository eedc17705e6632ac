//! Programs made of other programs, each part in a way of its own of being run.

use codeexec_crds::bounds;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::expect::{Expect, Outcome};
use crate::program::{Program, SUCCEEDED, Target};

/// Longest part, as it is written into a program: two of them fit.
const PART_CHARS: usize = 4_000;

/// What every program begins with. Whatever a part does to its interpreter, the others are tried.
const PREAMBLE: &str = "\
import atexit, gc, os, resource, signal, subprocess, sys, threading, time
def run(code):
    try: exec(compile(code, 'main.py', 'exec'), {'__name__': '__main__'})
    except BaseException: pass
";

/// How a program ends if its parts let it come to that.
const ENDINGS: [&str; 11] = [
    "",
    "",
    "time.sleep(0.2)",
    "time.sleep(60)",
    "while True: pass",
    "os._exit(3)",
    "sys.exit(300)",
    "raise ValueError('at the end')",
    "os.kill(os.getpid(), signal.SIGKILL)",
    "os.kill(os.getpid(), signal.SIGSTOP)",
    "os.abort()",
];

/// How a part is run. `@code` stands for its text, `@n` for a number of 0 to 9, each time another.
const VEHICLES: [(&str, &str); 24] = [
    ("inline", "run(@code)"),
    ("in a thread", "threading.Thread(target=run, args=(@code,)).start()"),
    (
        "in a daemon thread",
        "threading.Thread(target=run, args=(@code,), daemon=True).start()",
    ),
    (
        "in a forked child",
        "pid = os.fork()
if pid == 0:
    run(@code)
    os._exit(@n)
os.waitpid(pid, 0)",
    ),
    (
        "in a forked child that nobody waits for",
        "if os.fork() == 0:
    run(@code)
    os._exit(@n)",
    ),
    (
        "in a daemon",
        "if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: run(@code)
    os._exit(@n)",
    ),
    ("in another interpreter", "subprocess.run([sys.executable, '-c', @code])"),
    (
        "in another interpreter that nobody waits for",
        "subprocess.Popen([sys.executable, '-c', @code], start_new_session=@n % 2 == 0)",
    ),
    ("at exit", "atexit.register(run, @code)"),
    (
        "in a handler of SIGALRM",
        "signal.signal(signal.SIGALRM, lambda *_: run(@code))
signal.setitimer(signal.ITIMER_REAL, 0.001 + @n * 0.02)",
    ),
    (
        "in a handler of SIGALRM, again and again",
        "signal.signal(signal.SIGALRM, lambda *_: run(@code))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01 + @n * 0.01)",
    ),
    (
        "in a handler of SIGTERM",
        "signal.signal(signal.SIGTERM, lambda *_: run(@code))
os.kill(os.getpid(), signal.SIGTERM)",
    ),
    (
        "in a destructor",
        "class Dying:
    def __del__(self): run(@code)
Dying()",
    ),
    (
        "in a destructor at the interpreter's end",
        "class Lasting:
    def __del__(self): run(@code)
sys.lasting = Lasting()",
    ),
    (
        "in a collected cycle",
        "class Cycle:
    def __del__(self): run(@code)
cycle = Cycle()
cycle.cycle = cycle
del cycle
gc.collect()",
    ),
    (
        "in a trace function",
        "def trace(*_):
    sys.settrace(None)
    run(@code)
sys.settrace(trace)
(lambda: None)()",
    ),
    (
        "in an audit hook",
        "tried = []
def hook(*_):
    if not tried:
        tried.append(1)
        run(@code)
sys.addaudithook(hook)",
    ),
    (
        "without some descriptors",
        "for fd in (@n, @n, @n): os.close(fd)
run(@code)",
    ),
    (
        "with its output in a pipe that is full",
        "reader, writer = os.pipe()
os.dup2(writer, 1 + @n % 2)
run(@code)",
    ),
    (
        "below a limit",
        "limit, bound = [(resource.RLIMIT_NOFILE, 9), (resource.RLIMIT_AS, 1 << 27), (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_STACK, 1 << 18), (resource.RLIMIT_NPROC, 1), (resource.RLIMIT_CPU, 1),
    (resource.RLIMIT_DATA, 1 << 26), (resource.RLIMIT_NOFILE, 3), (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_SIGPENDING, 0)][@n]
resource.setrlimit(limit, (bound, bound))
run(@code)",
    ),
    (
        "deep in a recursion",
        "def deep(left): return run(@code) if left == 0 else deep(left - 1)
deep(950 + @n)",
    ),
    (
        "with every signal blocked",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
run(@code)",
    ),
    (
        "in a folder that is gone",
        "os.mkdir('/tmp/gone')
os.chdir('/tmp/gone')
os.rmdir('/tmp/gone')
run(@code)",
    ),
    (
        "beside endless output",
        "def pour():
    while True: os.write(1 + @n % 2, b'x' * 999 + b'\\n')
threading.Thread(target=pour, daemon=True).start()
run(@code)",
    ),
];

/// An endless stream of programs, the same ones for the same programs and seed.
#[derive(Debug)]
pub struct Generator<'a> {
    parts: Vec<(&'a Program, String)>,
    random: StdRng,
    seed: u64,
    made: u64,
}

impl<'a> Generator<'a> {
    /// Combines those of `programs` that can be a part of others.
    #[must_use]
    pub fn new(programs: &'a [Program], seed: u64) -> Self {
        let parts = programs.iter().filter(|program| can_be_a_part(program));
        let texts = parts.map(|program| (program, literal(&program.code())));
        Self {
            parts: texts
                .filter(|(_, text)| text.chars().count() <= PART_CHARS)
                .collect(),
            random: StdRng::seed_from_u64(seed),
            seed,
            made: 0,
        }
    }

    fn program(&mut self) -> Option<Program> {
        self.made += 1;
        let mut code = PREAMBLE.to_owned();
        let mut told = Vec::new();
        let mut group = None;
        for _ in 0..self.random.random_range(2..=4) {
            let (part, text) = self.parts.choose(&mut self.random)?;
            let (how, vehicle) = VEHICLES.choose(&mut self.random)?;
            let block = filled(vehicle, text, &mut self.random);
            // The ending has to fit too.
            if code.chars().count() + block.chars().count() + 60 > bounds::CODE_CHARS {
                break;
            }
            code += &block;
            told.push(format!("{} {how}", part.name));
            group = group.or(Some(part.group));
        }
        code += ENDINGS.choose(&mut self.random)?;
        code.push('\n');
        let name = format!("fuzz-{}-{}", self.seed, self.made);
        let timeout_seconds = self.random.random_range(1..=2);
        Some(Program {
            expect: Expect {
                outcomes: vec![Outcome::Success, Outcome::Error, Outcome::Timeout],
                stdout_lacks: vec![SUCCEEDED.to_owned()],
                ..Expect::default()
            },
            ..Program::plain(name, told.join(", "), group?, timeout_seconds, code)
        })
    }
}

impl Iterator for Generator<'_> {
    type Item = Program;

    /// Ends only where no program can be a part of others.
    fn next(&mut self) -> Option<Program> {
        self.program()
    }
}

/// Whether what must be true of any program is true of a program that holds this one.
fn can_be_a_part(program: &Program) -> bool {
    program.needs.is_empty()
        && !program.alone
        && program.runs_on(Target::Runner)
        && never_says_succeeded(program)
}

/// Whether that word in its output would be a failure of the program by itself, too.
fn never_says_succeeded(program: &Program) -> bool {
    let expect = &program.expect;
    let is_known_not_to = expect.stdout.is_some()
        || expect
            .stdout_lacks
            .iter()
            .any(|text| SUCCEEDED.contains(text.as_str()));
    let texts = [
        Some(&program.own_code),
        program.stdin.as_ref(),
        expect.stdout.as_ref(),
    ];
    let is_in = |text: &String| text.contains(SUCCEEDED);
    (program.uses.is_empty() || is_known_not_to) && !texts.into_iter().flatten().any(is_in)
}

/// A vehicle with its load. What fails in it keeps nothing else from being tried.
fn filled(vehicle: &str, text: &str, random: &mut StdRng) -> String {
    let mut pieces = vehicle.split("@n");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        filled += &random.random_range(0..10).to_string();
        filled += piece;
    }
    // The text last: it may hold anything.
    let lines = filled.lines().map(|line| format!("    {line}\n"));
    format!("try:\n{}except BaseException: pass\n", lines.collect::<String>()).replace("@code", text)
}

/// A text as Python writes it, on one line.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        match character {
            '\\' => literal += "\\\\",
            '\'' => literal += "\\'",
            '\n' => literal += "\\n",
            control if control < ' ' || control == '\x7f' => {
                literal += &format!("\\x{:02x}", u32::from(control));
            }
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;
    use crate::program::Helper;

    fn programs() -> Vec<Program> {
        let program = |name: &str, code: String| {
            Program::plain(name.to_owned(), "because".to_owned(), Group::Ends, 10, code)
        };
        let mut all = vec![
            program("long", "x = 1\n".repeat(500)),
            program("also-long", "'é' + \"\\t\"\n".repeat(200)),
            program("too-long", "x = 1\n".repeat(1500)),
            program("says-it", "print('SUCCEEDED')".to_owned()),
            program("needy", "import numpy".to_owned()),
            program("attempts", "attempt('a', lambda: 1)".to_owned()),
            program("succeeds", "attempt('a', lambda: 1)".to_owned()),
            program("solitary", "x = 1".to_owned()),
        ];
        all[4].needs.push("numpy".to_owned());
        all[5].uses.push(Helper::Attempt);
        all[5].expect.stdout = Some(String::new());
        all[6].uses.push(Helper::Attempt);
        all[7].alone = true;
        all
    }

    #[test]
    fn the_same_seed_makes_the_same_programs() {
        let programs = programs();
        let codes = |seed| -> Vec<String> {
            let generated = Generator::new(&programs, seed).take(20);
            generated.map(|program| program.code()).collect()
        };
        assert_eq!(codes(1), codes(1));
        assert_ne!(codes(1), codes(2));
    }

    #[test]
    fn every_program_keeps_the_bounds_and_holds_two_parts_that_can_be_parts() {
        let programs = programs();
        let mut names = std::collections::HashSet::new();
        for program in Generator::new(&programs, 7).take(500) {
            assert!(
                program.code().chars().count() <= bounds::CODE_CHARS,
                "{}",
                program.why
            );
            assert!(program.why.split(", ").count() >= 2, "{}", program.why);
            for excluded in ["too-long", "says-it", "needy", "succeeds", "solitary"] {
                assert!(!program.why.contains(excluded), "{}", program.why);
            }
            assert!(!program.code().contains('@') && program.code().contains("try:\n    "));
            assert!(names.insert(program.name));
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert!(Generator::new(&[], 1).next().is_none());
    }

    #[test]
    fn a_literal_stands_on_one_line() {
        assert_eq!(literal("a'\\\n\r\0é"), "'a\\'\\\\\\n\\x0d\\x00é'");
    }
}
