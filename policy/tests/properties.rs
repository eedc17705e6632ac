//! What holds of every text. `PROPTEST_CASES` makes it look longer.

mod shapes;

use codeexec_policy::{Construct, check};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Words and marks of Python, in any order: some of it programs, most of it nearly.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(shapes::PIECES.to_vec()).prop_map(|(open, _)| open.to_owned()),
        2 => select(shapes::PIECES.to_vec()).prop_map(|(_, close)| close.to_owned()),
        2 => select(vec!["\n", "\n ", "\n  ", "\n    ", " ", ";", ":", ",", "=", "a", "1", "'", "\"\"\"", "#", "\\", "\\\n"])
            .prop_map(str::to_owned),
        2 => select(vec!["import ", "from ", "os", "sys", "eval", "exec(", "__import__", "as ", "def ", "class ", "in ", "is "])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

/// A few kinds of nesting within each other, as deep as a program can be long.
fn nesting() -> impl Strategy<Value = String> {
    let pieces = vec(select(shapes::PIECES.to_vec()), 1..4);
    (select(shapes::BEGINNINGS.to_vec()), pieces, any::<bool>())
        .prop_map(|(beginning, pieces, closed)| shapes::nested(beginning, &pieces, "eval(a)", closed))
}

proptest! {
    #[test]
    fn any_text_is_answered_with_places_that_are_in_it(
        code in prop_oneof![any::<String>(), "[ -~\n]{0,200}", soup(), nesting()],
    ) {
        let lines: Vec<&str> = code.split('\n').flat_map(|line| line.split('\r')).collect();
        for finding in check(&code) {
            prop_assert_ne!(finding.construct, Construct::Unreadable);
            prop_assert!(finding.line >= 1 && finding.line <= lines.len());
            let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
            prop_assert!(finding.column >= 1 && finding.column <= longest);
        }
    }

    #[test]
    fn it_makes_no_difference_whether_a_program_has_to_be_parsed(code in soup()) {
        // A comment with a name is reason enough.
        let parsed = check(&format!("# os\n{code}"));
        let places = |findings: Vec<codeexec_policy::Finding>, lines| -> Vec<_> {
            findings.into_iter().map(|finding| (finding.construct, finding.line - lines, finding.column)).collect()
        };
        prop_assume!(parsed.iter().all(|finding| finding.construct != Construct::TooDeep));
        // A byte order mark is one at the very beginning only.
        prop_assume!(!code.starts_with('\u{feff}'));
        prop_assert_eq!(places(check(&code), 0), places(parsed, 1));
    }

    #[test]
    fn a_construct_is_found_behind_whatever_stands_before_it(code in soup()) {
        // An open comment or string would make it part of itself, and rightly so.
        let code = code.replace(['#', '\'', '"', '\\'], " ");
        let findings = check(&format!("{code}\nimport subprocess\n"));
        prop_assert!(findings.iter().any(|finding| finding.construct == Construct::ImportSubprocess));
    }
}
