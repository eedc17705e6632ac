//! Programs in which no name of the policy occurs at all, which are most of them, need no parser.

/// The names that every construct holds one of.
const NAMES: [&[u8]; 7] = [
    b"os",
    b"subprocess",
    b"sys",
    b"__import__",
    b"eval",
    b"exec",
    b"compile",
];

/// Whether one of the names may stand in a program, as code or otherwise.
///
/// In ASCII a name can't be written in any other way: Python knows no escapes outside of strings, and no line goes on in
/// the middle of a name. A number may end where it begins, as in `1eval`. Other letters may be look-alikes, and only a
/// parser tells.
pub fn may_hold_a_name(code: &str) -> bool {
    let is_separator = |byte: &u8| !(byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_name = |word: &[u8]| {
        let may_begin_with_number = word.first().is_some_and(u8::is_ascii_digit);
        let is_same = |name: &[u8]| word == name || (may_begin_with_number && word.ends_with(name));
        NAMES.into_iter().any(is_same)
    };
    !code.is_ascii() || code.as_bytes().split(is_separator).any(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_words() {
        for code in [
            "os",
            "import sys",
            "x=eval(1)",
            "(exec)",
            "# os",
            "'a.os.b'",
            "a\\\nos",
            "1eval(2)",
            "1e5exec",
            "é",
        ] {
            assert!(may_hold_a_name(code), "{code}");
        }
        for code in [
            "",
            "pos = cost",
            "os_ = _os = os2",
            "evaluate(1)",
            "o\\\ns",
            "import math",
            "0xff + 1e5",
        ] {
            assert!(!may_hold_a_name(code), "{code}");
        }
    }
}
