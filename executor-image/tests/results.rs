//! Files that a program leaves in its results folder, and what it may put there instead.

mod common;

use codeexec_runner::encoding::encoded_file_len;
use codeexec_runner::frames::{Ended, OutputLimits, Request, RequestFile};
use common::{Start, has_landlock, request, request_of, run, run_in, run_request};

/// A file of a request with the text "hi".
fn input(path: &str) -> RequestFile {
    RequestFile {
        path: path.to_owned(),
        content: "aGk=".to_owned(),
    }
}

#[test]
fn files_come_back_in_the_order_in_which_they_were_finished() {
    let ran = run("
import os, time
def leave(name, content):
    with open(name, 'wb') as file: file.write(content)
    time.sleep(0.02)
leave('/code/out/c.csv', b'a;b\\n')
os.mkdir('out/b')
leave('out/b/x.json', b'{}')
leave('out/a.svg', b'<svg/>')
leave('out/Z.PNG', b'\\x89PNG\\r\\n\\x1a\\n\\0')
leave('out/e.jpg', b'\\xff\\xd8\\xff\\0')
leave('out/d', 'é'.encode())
print('printed')");
    assert_eq!(
        ran.left(),
        [
            "c.csv text/csv",
            "b/x.json application/json",
            "a.svg image/svg+xml",
            "Z.PNG image/png",
            "e.jpg image/jpeg",
            "d text/plain"
        ]
    );
    assert_eq!(ran.content("c.csv"), b"a;b\n");
    assert_eq!(ran.content("Z.PNG"), b"\x89PNG\r\n\x1a\n\0");
    // After the output, whose numbers they go on.
    let numbers: Vec<u64> = ran.files.iter().map(|file| file.seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert!(!ran.result.files.dropped);
    assert_eq!(ran.printed(), "printed\n");
}

#[test]
fn a_program_without_results_has_none_and_nothing_is_flagged() {
    let ran = run("import os\nprint(os.listdir('out'), os.listdir('/code/out'))");
    assert_eq!((ran.files.len(), ran.result.files.dropped), (0, false));
    assert_eq!(ran.printed(), "[] []\n");
}

#[test]
fn files_come_however_the_program_ended() {
    let leave = "import os, sys\nwith open('out/a.csv', 'w') as file: file.write('1')\n";
    for end in [
        "raise ValueError('x')",
        "sys.exit(3)",
        "os._exit(0)",
        "os.kill(os.getpid(), 9)",
    ] {
        let ran = run(&format!("{leave}{end}"));
        assert_eq!(ran.left(), ["a.csv text/csv"], "{end}");
    }
    let ran = run_request(&Request {
        timeout_ms: 500,
        ..request(&format!("{leave}while True: pass"))
    });
    assert_eq!(ran.result.ended, Ended::DeadlineExceeded);
    assert_eq!(ran.left(), ["a.csv text/csv"]);
}

#[test]
fn input_files_keep_their_names_where_the_results_would_be() {
    let ran = run_request(&Request {
        files: vec![input("out")],
        ..request("print(open('out').read())")
    });
    assert_eq!((ran.files.len(), ran.result.files.dropped), (0, false));
    assert_eq!(ran.printed(), "hi\n");
    let ran = run_request(&Request {
        files: vec![input("out/a/b.csv")],
        ..request("open('out/c.txt', 'w').write(open('out/a/b.csv').read())")
    });
    let mut left = ran.left();
    left.sort_unstable();
    assert_eq!(left, ["a/b.csv text/csv", "c.txt text/plain"]);
}

#[test]
fn a_request_that_could_not_be_handed_over_leaves_no_files() {
    let ran = run_request(&Request {
        files: vec![input("out/a.csv"), input("..")],
        ..request("pass")
    });
    assert!(matches!(ran.result.ended, Ended::Failed { .. }));
    assert_eq!((ran.files.len(), ran.result.files.dropped), (0, false));
}

/// Only the file `own` is taken, and something else was not.
fn only_its_own_is_taken(code: &str) {
    let ran = run(&format!(
        "import os, socket\n{code}\nwith open('/code/out/own', 'w') as file: file.write('1')"
    ));
    assert_eq!(ran.left(), ["own text/plain"], "{code}\n{}", ran.stderr);
    assert!(ran.result.files.dropped, "{code}");
}

#[test]
fn links_pipes_and_sockets_are_not_followed_nor_waited_for() {
    only_its_own_is_taken("os.symlink('/etc/passwd', 'out/a')");
    only_its_own_is_taken("os.symlink('/proc/self/environ', 'out/a')");
    only_its_own_is_taken("os.symlink('/etc', 'out/a')");
    only_its_own_is_taken("os.symlink('own', 'out/a')");
    only_its_own_is_taken("os.mkfifo('out/a')");
    only_its_own_is_taken("socket.socket(socket.AF_UNIX).bind('out/a')");
}

#[test]
fn what_nobody_may_read_is_left() {
    only_its_own_is_taken("open('out/a', 'w').close()\nos.chmod('out/a', 0)");
    only_its_own_is_taken("os.mkdir('out/a')\nopen('out/a/b', 'w').close()\nos.chmod('out/a', 0)");
}

#[test]
fn names_that_can_t_be_shown_are_left() {
    only_its_own_is_taken("open('out/a\\nb', 'w').close()");
    only_its_own_is_taken("open('out/\\x1b[31m', 'w').close()");
    only_its_own_is_taken("open(b'out/\\xff', 'w').close()");
    only_its_own_is_taken(
        "os.mkdir('out/' + 'd' * 200)\nopen('out/' + 'd' * 200 + '/' + 'e' * 55, 'w').close()",
    );
    let longest = "e".repeat(255);
    let ran = run(&format!("open('out/{longest}', 'w').close()"));
    assert_eq!(ran.left(), [format!("{longest} text/plain")]);
}

#[test]
fn a_file_without_end_takes_no_time_and_no_room() {
    only_its_own_is_taken(
        "for name in ('a', 'b', 'c'): os.truncate(os.open(f'out/{name}', os.O_CREAT | os.O_WRONLY), 1 << 30)",
    );
}

#[test]
fn what_is_neither_text_nor_a_known_picture_is_left() {
    only_its_own_is_taken("with open('out/a.pkl', 'wb') as file: file.write(b'\\x80\\x04')");
    only_its_own_is_taken("with open('out/a.csv', 'wb') as file: file.write(b'a\\0')");
}

#[test]
fn folders_are_looked_into_down_to_the_fourth_name() {
    let ran = run("
import os
os.makedirs('out/a/b/c/d')
for name in ('a/1', 'a/b/2', 'a/b/c/3', 'a/b/c/d/4'):
    open(f'out/{name}', 'w').close()
    os.utime(f'out/{name}', (1, 1))");
    assert_eq!(
        ran.left(),
        ["a/1 text/plain", "a/b/2 text/plain", "a/b/c/3 text/plain"]
    );
    assert!(ran.result.files.dropped);
}

#[test]
fn more_entries_than_are_looked_at_take_no_time() {
    let ran = run("
import os
for number in range(50_000):
    os.close(os.open(f'/code/out/{number}', os.O_CREAT))
os.mkdir('out/deep')
os.chdir('out/deep')
for _ in range(2000):
    os.mkdir('d')
    os.chdir('d')
print('made')");
    assert_eq!(ran.files.len(), 32);
    assert!(ran.result.files.dropped);
    assert_eq!(ran.printed(), "made\n");
}

#[test]
fn a_thousand_entries_are_looked_at_and_thirty_two_files_taken() {
    let ran = run("
import os
for number in range(968): os.mkdir(f'/code/out/{number}')
for number in range(32): open(f'/code/out/{number}.txt', 'w').close()");
    assert_eq!((ran.files.len(), ran.result.files.dropped), (32, false));
    let ran = run("for number in range(33): open(f'/code/out/{number}.txt', 'w').close()");
    assert_eq!((ran.files.len(), ran.result.files.dropped), (32, true));
}

#[test]
fn a_folder_that_is_no_folder_leads_nowhere() {
    for code in ["os.symlink('/usr', 'out')", "os.mkfifo('out')"] {
        let ran = run(&format!("import os\nos.rmdir('out')\n{code}"));
        assert_eq!(
            (ran.files.len(), ran.result.files.dropped),
            (0, true),
            "{code}\n{}",
            ran.stderr
        );
    }
    for code in ["pass", "open('out', 'w').close()"] {
        let ran = run(&format!("import os\nos.rmdir('out')\n{code}"));
        assert_eq!((ran.files.len(), ran.result.files.dropped), (0, false), "{code}");
    }
}

#[test]
fn a_work_directory_that_was_put_elsewhere_is_still_the_one_that_is_read() {
    let code = "
import os
open('out/own', 'w').close()
os.makedirs('/dev/shm/fake/out')
open('/dev/shm/fake/out/forged', 'w').close()
os.rename('/dev/shm/code', '/dev/shm/away')
os.symlink('/dev/shm/fake', '/dev/shm/code')
print(os.listdir('/code/out'))";
    let ran = run_in(Start::default().linked(), &request(code));
    assert_eq!(ran.left(), ["own text/plain"]);
    assert_eq!(ran.printed(), "['forged']\n");
}

#[test]
fn files_are_read_when_nobody_is_left_who_writes() {
    let ran = run("
import os, time
ready, tell = os.pipe()
for number in range(4):
    if os.fork() == 0:
        os.setsid()
        text = str(number) * 100_000
        while True:
            with open(f'/code/out/half-{number}', 'w') as file: file.write(text)
            os.replace(f'/code/out/half-{number}', '/code/out/a.txt')
            os.write(tell, b'x')
for _ in range(40): os.read(ready, 1)
os._exit(0)");
    let content = ran.content("a.txt");
    assert_eq!(content.len(), 100_000);
    assert!(content.iter().all(|byte| *byte == content[0]));
    assert!(!ran.result.files.dropped);
}

#[test]
fn files_share_the_room_with_the_output_and_one_that_is_too_large_makes_way() {
    let small = encoded_file_len("b.txt", "application/json", &"A".repeat(40));
    let limits = |encoded_bytes| OutputLimits {
        bytes: 1 << 20,
        encoded_bytes,
    };
    // A newline takes two.
    let code = "
import os
print('x' * 998)
for name, size in (('a.txt', 1000), ('b.txt', 30)):
    with open(f'out/{name}', 'w') as file: file.write('x' * size)
    os.utime(f'out/{name}', (1, 1))";
    for (room, left) in [(1000 + small, vec!["b.txt text/plain"]), (999 + small, vec![])] {
        let ran = run_request(&Request {
            limits: limits(room),
            ..request(code)
        });
        assert_eq!(
            (ran.left(), ran.stdout.len()),
            (left.iter().map(ToString::to_string).collect(), 999)
        );
        assert!(ran.result.files.dropped && !ran.result.stdout.truncated);
    }
}

#[test]
fn a_megabyte_of_output_and_a_figure_s_worth_of_files_come_together() {
    let ran = run_request(&Request {
        limits: OutputLimits {
            bytes: 1 << 20,
            encoded_bytes: 1_350_000,
        },
        ..request("print('x' * 1_000_000)\nopen('out/a.txt', 'w').write('y' * 200_000)")
    });
    assert_eq!(ran.content("a.txt").len(), 200_000);
    assert!(!ran.result.files.dropped && !ran.result.stdout.truncated);
    // All of the room for one file, in one frame.
    let ran = run_request(&Request {
        limits: OutputLimits {
            bytes: 1 << 20,
            encoded_bytes: 1_350_000,
        },
        ..request("open('out/a.txt', 'w').write('y' * 1_012_000)")
    });
    assert_eq!(ran.content("a.txt").len(), 1_012_000);
    assert!(!ran.result.files.dropped);
}

#[test]
fn each_name_of_one_file_is_a_result() {
    let ran = run("import os\nopen('out/a', 'w').write('x')\nos.link('out/a', 'out/b')");
    assert_eq!(ran.left(), ["a text/plain", "b text/plain"]);
}

#[test]
fn nothing_of_one_program_s_results_comes_back_as_another_s() {
    if !has_landlock() {
        return;
    }
    for start in [Start::default(), Start::default().linked()] {
        let mut runner = start.start();
        for (served, code) in [
            (0, "open('out/a.csv', 'w').write('1')"),
            (1, "import os\nprint(os.listdir('out'))"),
            (2, "import shutil\nshutil.rmtree('out')"),
            (3, "open('/code/out/b.csv', 'w').write('1')"),
        ] {
            runner.ready(served);
            let ran = runner.serve(&request_of(&format!("program {served}"), code));
            let left: &[&str] = match served {
                0 => &["a.csv text/csv"],
                3 => &["b.csv text/csv"],
                _ => &[],
            };
            assert_eq!(ran.left(), left, "{code}\n{}", ran.stderr);
            assert!(!ran.result.files.dropped);
        }
    }
}
