//! What a program draws with matplotlib comes back without its saving it.

mod common;

use codeexec_runner::frames::{Ended, Request};
use common::{Ran, Start, request, run_in};

/// Runs a program that imports pyplot, if there is a Python that has it.
fn drawn(code: &str, look: impl FnOnce(Ran)) {
    drawn_in(|start| start, code, look);
}

fn drawn_in(adapt: impl FnOnce(Start) -> Start, code: &str, look: impl FnOnce(Ran)) {
    let Some(start) = Start::default().with_packages() else {
        eprintln!("SKIPPED: there is no Python with matplotlib in target/python");
        return;
    };
    let code = format!("import os, sys\nimport matplotlib.pyplot as plt\n{code}");
    look(run_in(
        adapt(start),
        &Request {
            timeout_ms: 30_000,
            ..request(&code)
        },
    ));
}

/// Asserts that it ended well, said nothing, and left these pictures.
fn draws(code: &str, expected: &[&str]) {
    drawn(code, |ran| {
        let pictures: Vec<&str> = ran.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(pictures, expected, "{code}\n{}", ran.stderr);
        assert!(ran.files.iter().all(|file| file.mime_type == "image/png"));
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{code}");
        assert!(!ran.result.files.dropped);
    });
}

#[test]
fn each_plot_that_is_shown_is_a_picture_and_the_next_one_begins_anew() {
    let code = "plt.plot([1, 2])\nplt.show()\nprint(plt.get_fignums())\nplt.plot([1, 2])\nplt.plot([2, 1])\nplt.show()";
    for modules in ["", "matplotlib.pyplot"] {
        let preload = |start: Start| start.flag(format!("--preload={modules}"));
        drawn_in(preload, code, |ran| {
            assert_eq!(
                ran.left(),
                ["figure-1.png image/png", "figure-2.png image/png"],
                "{}",
                ran.stderr
            );
            assert_ne!(ran.content("figure-1.png"), ran.content("figure-2.png"));
            // Agg has no window, of which pyplot would warn.
            assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("[]\n", ""));
        });
    }
}

#[test]
fn what_is_left_open_is_saved_at_the_end() {
    draws("plt.plot([1, 2])", &["figure-1.png"]);
    draws(
        "plt.figure()\nplt.figure()\nplt.close()\nplt.figure()",
        &["figure-1.png", "figure-2.png"],
    );
    draws("", &[]);
}

#[test]
fn a_window_that_would_stay_open_is_a_picture_at_the_end() {
    draws(
        "plt.ion()\nplt.plot([1])\nfor _ in range(3): plt.pause(0.01)\nplt.show()",
        &["figure-1.png"],
    );
    draws(
        "plt.plot([1])\nplt.show(block=False)\nplt.plot([2, 1])\nplt.show(block=True)",
        &["figure-1.png"],
    );
}

#[test]
fn what_the_program_saved_there_itself_does_not_come_twice() {
    draws("plt.plot([1, 2])\nplt.savefig('out/own.png')", &["own.png"]);
    draws(
        "plt.plot([1, 2])\nplt.savefig('elsewhere.png')",
        &["figure-1.png"],
    );
    // But a plot that is shown twice does.
    draws(
        "for _ in range(2):\n    plt.plot([1, 2])\n    plt.show()",
        &["figure-1.png", "figure-2.png"],
    );
}

#[test]
fn a_name_that_is_taken_stays_what_it_is() {
    drawn(
        "open('out/figure-1.png', 'w').write('own')\nos.symlink('/code/main.py', 'out/figure-2.png')\nplt.plot([1])",
        |ran| {
            assert_eq!(ran.left(), ["figure-1.png text/plain", "figure-3.png image/png"]);
            assert_eq!(ran.content("figure-1.png"), b"own");
        },
    );
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    draws("os.rmdir('out')\nos.chdir('/')\nplt.plot([1])", &["figure-1.png"]);
}

#[test]
fn the_end_of_a_program_stays_its_own() {
    drawn("plt.plot([1])\nraise ValueError('x')", |ran| {
        assert_eq!((ran.left().len(), ran.code()), (1, 1));
        let trace = "Traceback (most recent call last):\n  File \"main.py\", line 4, in <module>\n";
        assert!(ran.stderr.starts_with(trace), "{}", ran.stderr);
    });
    drawn("plt.plot([1])\nsys.exit(3)", |ran| {
        assert_eq!((ran.left().len(), ran.code()), (1, 3));
    });
    drawn("plt.plot([1])\nraise KeyboardInterrupt", |ran| {
        assert_eq!((ran.left().len(), ran.signal()), (0, 2));
    });
    drawn("plt.plot([1])\nos._exit(0)", |ran| {
        assert_eq!(ran.left().len(), 0);
    });
}

#[test]
fn an_error_while_drawing_is_one_line_and_no_more() {
    let broken = "
from matplotlib.artist import Artist
class Broken(Artist):
    def draw(self, renderer): raise ValueError('first\\nsecond')
plt.gca().add_artist(Broken())
plt.figure()";
    drawn(broken, |ran| {
        assert_eq!((ran.left().len(), ran.code()), (1, 0));
        assert_eq!(
            ran.stderr,
            "codeexec: figure 1 could not be saved: ValueError: first second\n"
        );
    });
    drawn("plt.figure(figsize=(100, 100))", |ran| {
        assert_eq!((ran.left().len(), ran.code()), (0, 0));
        assert!(ran.stderr.contains("10000 x 10000 pixels are too many"));
    });
}

#[test]
fn sixteen_figures_are_saved() {
    drawn("for _ in range(17): plt.figure(figsize=(0.1, 0.1))", |ran| {
        assert_eq!((ran.left().len(), ran.code()), (16, 0));
        assert_eq!(ran.stderr, "codeexec: only 16 figures are saved\n");
    });
}

#[test]
fn a_child_that_comes_to_the_end_as_well_draws_nothing() {
    draws(
        "plt.plot([1])\nif os.fork():\n    os.wait()\n    plt.close()",
        &[],
    );
    draws("plt.plot([1])\nif os.fork(): os.wait()", &["figure-1.png"]);
}

#[test]
fn a_program_that_runs_out_of_time_while_it_draws_has_run_out_of_time() {
    let code = "
import time
from matplotlib.artist import Artist
class Slow(Artist):
    def draw(self, renderer): time.sleep(60)
plt.gca().add_artist(Slow())";
    let Some(start) = Start::default().with_packages() else {
        return;
    };
    let ran = run_in(
        start,
        &Request {
            timeout_ms: 6000,
            ..request(&format!("import matplotlib.pyplot as plt{code}"))
        },
    );
    assert_eq!(ran.result.ended, Ended::DeadlineExceeded);
}

#[test]
fn the_import_of_pyplot_looks_as_ever() {
    drawn(
        "from inspect import signature\nprint(plt.show.__name__, plt.show.__module__, plt.show.__doc__.strip()[:7])\n\
         print([f for f in sys.meta_path if f.__module__ == '__main__'], plt.__spec__.loader.__dict__.keys())",
        |ran| {
            let printed = ran.printed();
            assert!(
                printed.starts_with("show matplotlib.pyplot Display\n[] dict_keys(['name', 'path'])"),
                "{printed}"
            );
        },
    );
}

/// The program's own package of that name, with one line that fails.
fn own_package(pyplot: &str, code: &str) -> Ran {
    run_in(
        Start::default(),
        &request(&format!(
            "import os\nos.mkdir('matplotlib')\nopen('matplotlib/__init__.py', 'w').close()\n\
             with open('matplotlib/pyplot.py', 'w') as file: file.write({pyplot:?})\n{code}"
        )),
    )
}

#[test]
fn another_module_of_that_name_is_left_alone() {
    let ran = own_package(
        "def show(): print('own')",
        "import matplotlib.pyplot\nmatplotlib.pyplot.show()",
    );
    assert_eq!((ran.printed().as_str()), "own\n");
}

#[test]
fn a_traceback_through_the_import_shows_the_program_s_lines_only() {
    let ran = own_package("1 / 0", "import matplotlib.pyplot");
    let files: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.trim_start().starts_with("File "))
        .collect();
    assert_eq!(
        files,
        [
            "  File \"main.py\", line 5, in <module>",
            "  File \"/code/matplotlib/pyplot.py\", line 1, in <module>"
        ],
        "{}",
        ran.stderr
    );
}

#[test]
fn a_program_without_pyplot_has_no_module_of_it() {
    let ran = run_in(
        Start::default(),
        &request(
            "import sys\nprint([name for name in sys.modules if 'figures' in name or 'matplotlib' in name])",
        ),
    );
    assert_eq!(ran.printed(), "[]\n");
}
