//! Which programs are refused for what they say, before they run: seven constructs, matched on the syntax tree.
//!
//! ```text
//!   code ── check ──▶ findings: the first place of each construct that the policy names
//! ```
//!
//! | Construct | What is found | What is not |
//! |---|---|---|
//! | `import os`, `import subprocess`, `import sys` | `import os`, `import os.path`, `import os as x`, `import json, os`, `from os import y`, `from os.path import y` | `import os_helper`, `from x import os`, `from .os import y` |
//! | `eval(`, `exec(`, `compile(` | a call of the bare name, `(eval)(x)` and the decorator `@eval` too | `re.compile(`, `obj.eval(`, `evaluate(`, `f = eval`, `def eval():` |
//! | `__import__` | the name anywhere: called or not, as an attribute, an argument, a definition | |
//!
//! Names count as Python reads them: case matters, and full-width look-alikes are the same name (NFKC). Words in strings
//! and comments are no code; the expressions of an f-string are.
//!
//! This is no boundary. Python reaches everything by other ways (`getattr`, `importlib`, a class's subclasses), and what
//! holds a program that does is the isolation it runs in. The policy tells honest users early what will not work.
//!
//! # Programs that do not parse
//! Python reports those, with a message better than ours. But our parser is not the Python that runs the program, and
//! may be older: what it can't read must not pass because of that. So where it meets an error, it goes on behind it, the
//! tree that comes of it counts as any other, and the program's tokens are looked through as well. A program with an
//! error passes if none of the constructs stands in it.
//!
//! # Hostile programs
//! Any text is answered, in a time that its length bounds. A program in which none of the names occurs is not parsed:
//! 10,000 characters take 0.02 ms. One that has to be parsed takes 0.3 ms if somebody wrote it, and 5 ms at worst (twice
//! as much with the allocator of musl). There, more than 200 brackets within each other, which Python refuses as well, and more than 200 prefix operators
//! in a row are not parsed: that is a finding ([`Construct::TooDeep`]). Other depth is no danger, for a tree as deep as
//! its text is long is walked without recursion, and parsed and dropped on a stack that is large enough for it. So more
//! than the 100 levels of indentation that Python takes pass, and Python reports them.
//! Lengths are bounded by whoever calls.

mod finding;
mod nesting;
mod policy;
mod stack;
mod tokens;
mod tree;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};
use ruff_source_file::LineIndex;
use ruff_text_size::TextSize;

pub use crate::finding::{Construct, Finding};
pub use crate::policy::{Policy, UnknownPolicy};

/// Python takes one before a program for no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Finds the first place of each construct that the policy names, in the order in which they stand in the program.
///
/// For programs within their bounds: time and memory grow with the length of `code`.
#[must_use]
pub fn check(code: &str) -> Vec<Finding> {
    if !words::may_hold_a_name(code) {
        return Vec::new();
    }
    let mut places = or_unreadable(|| stack::large_enough(code.len(), || places(code)));
    if places.is_empty() {
        return Vec::new();
    }
    places.sort_unstable();
    let lines = LineIndex::from_source_text(code);
    let finding = |(place, construct)| {
        let line = lines.line_index(place);
        let before = &code[lines.line_start(line, code).to_usize()..place.to_usize()];
        let before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before);
        Finding {
            construct,
            line: line.get(),
            column: before.chars().count() + 1,
        }
    };
    places.into_iter().map(finding).collect()
}

/// Where each construct stands first.
fn places(code: &str) -> Vec<(TextSize, Construct)> {
    if nesting::is_too_deep(code) {
        return vec![(TextSize::new(0), Construct::TooDeep)];
    }
    let parsed = parse_unchecked(code, ParseOptions::from(Mode::Module));
    let mut places = Places::default();
    tree::search(parsed.syntax(), &mut places);
    if !parsed.errors().is_empty() {
        tokens::search(code, parsed.tokens(), &mut places);
    }
    places.0
}

/// A parser that panics has read nothing. Whoever could make it do so would pass, were that no finding.
fn or_unreadable(search: impl FnOnce() -> Vec<(TextSize, Construct)>) -> Vec<(TextSize, Construct)> {
    // Nothing outlives the search that a panic could leave half done.
    catch_unwind(AssertUnwindSafe(search)).unwrap_or_else(|_| vec![(TextSize::new(0), Construct::Unreadable)])
}

/// The first place of each construct.
#[derive(Debug, Default)]
struct Places(Vec<(TextSize, Construct)>);

impl Places {
    fn add(&mut self, construct: Construct, place: TextSize) {
        match self.0.iter_mut().find(|(_, known)| *known == construct) {
            Some((first, _)) => *first = place.min(*first),
            None => self.0.push((place, construct)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_panics_is_a_finding() {
        let places = or_unreadable(|| panic!("a defect of the parser"));
        assert_eq!(places, [(TextSize::new(0), Construct::Unreadable)]);
        assert_eq!(or_unreadable(Vec::new), []);
    }
}
