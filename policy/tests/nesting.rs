//! Programs that are made to be deep must not hurt whoever looks at them.

mod shapes;

use std::thread;

use codeexec_policy::{Construct, check};

/// Much less than any thread of ours has, so that the stack grows where it has to.
const STACK: usize = 256 * 1024;

/// Where a stack that is too small ends the process, all tests fail.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(work);
    thread.expect("a thread").join().expect("no panic");
}

#[test]
fn ten_thousand_characters_of_any_kind_of_nesting_are_answered() {
    on_a_small_stack(|| {
        for program in shapes::all() {
            let unreadable = check(&program)
                .into_iter()
                .any(|finding| finding.construct == Construct::Unreadable);
            assert!(!unreadable, "{}", program.chars().take(60).collect::<String>());
        }
    });
}

#[test]
fn what_stands_at_the_bottom_of_a_deep_tree_is_found() {
    on_a_small_stack(|| {
        for piece in [
            "a.",
            "a+",
            "a**",
            "a if b else ",
            "lambda:",
            "a or b and ",
            "a<",
            "a=",
            "a,",
            "a[b].",
            "a().",
            "a:=",
        ] {
            let chain = shapes::nested("x = ", &[(piece, "")], "eval(a)", false);
            let attribute = piece.ends_with('.');
            let found = check(&chain).first().map(|finding| finding.construct);
            assert_eq!(found, (!attribute).then_some(Construct::Eval), "{piece}");
        }
        let deep = format!("x = {}a{} # os", "f(".repeat(199), ")".repeat(199));
        assert_eq!(check(&deep), []);
        let found = check(&deep.replace('a', "eval(a)"))[0];
        assert_eq!(
            (found.construct, found.line, found.column),
            (Construct::Eval, 1, 403)
        );
        let blocks = shapes::indented("if a:").replace("os\n", "import os\n");
        assert_eq!(check(&blocks)[0].construct, Construct::ImportOs);
    });
}

#[test]
fn beyond_two_hundred_levels_there_is_one_answer_whatever_else_stands_there() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{", "}"),
        ("f(", ")"),
        ("-", ""),
        ("not ", ""),
    ] {
        let program = format!("import os\nx = {}1{}", open.repeat(201), close.repeat(201));
        let findings = check(&program);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].construct, Construct::TooDeep, "{open}");
    }
}
