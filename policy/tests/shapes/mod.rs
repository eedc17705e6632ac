//! Programs that are nothing but depth: a beginning, one piece of syntax again and again, and the same closed again.
#![allow(dead_code)] // not every file uses all of it

/// Most characters of a program.
pub const CHARS: usize = 10_000;

/// Pieces that go one level deeper each time, or that hang one more thing onto what stands before.
pub const PIECES: &[(&str, &str)] = &[
    // Operators and chains, which need no end.
    ("-", ""),
    ("~", ""),
    ("not ", ""),
    ("await ", ""),
    ("a.", ""),
    ("a+", ""),
    ("a**", ""),
    ("a**-", ""),
    ("a if b else -", ""),
    ("lambda:-", ""),
    ("a@", ""),
    ("a<", ""),
    ("a or b and ", ""),
    ("a and not ", ""),
    ("a if b else ", ""),
    ("lambda:", ""),
    ("lambda a=", ""),
    ("a:=", ""),
    ("a=", ""),
    ("a,", ""),
    ("*", ""),
    ("yield ", ""),
    ("yield from ", ""),
    ("'' ", ""),
    ("f'' ", ""),
    // Brackets of all kinds.
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("(a,", ")"),
    ("(a:=", ")"),
    ("(yield ", ")"),
    ("(-", ")"),
    ("{a:", "}"),
    ("{**", "}"),
    ("{*", "}"),
    ("a(", ")"),
    ("a(*", ")"),
    ("a(a=", ")"),
    ("a[", "]"),
    ("a[:", "]"),
    ("a[a:", "]"),
    ("[a for a in ", "]"),
    ("[a for a in a if ", "]"),
    ("{a for a in ", "}"),
    ("(a async for a in ", ")"),
    ("{a: a for a in ", "}"),
    ("lambda a=(", "):a"),
    ("()", ""),
    ("(a)", ""),
    ("[a]", ""),
    // Strings with expressions.
    ("f'{", "}'"),
    ("f'{a:{", "}}'"),
    ("f'''{", "}'''"),
    ("t'{", "}'"),
    ("f'{{{", "}'"),
    // Patterns.
    ("A(", ")"),
    ("A(a=", ")"),
    ("a|", ""),
    ("[*", "]"),
    // Statements.
    ("@a\n", ""),
    ("import a.", ""),
    ("from .", ""),
    ("a;", ""),
    ("if a:", ""),
    ("else:", ""),
    ("elif a:\n", ""),
    ("class A:", ""),
    ("match ", ""),
    ("case ", ""),
    ("with ", ""),
    ("with (", ")"),
    ("with (a, ", ")"),
    ("with a as ", ""),
    ("type A=", ""),
    ("def f[T:(", ")]():a\n"),
    ("def f(a:", ")"),
    ("for a in ", ""),
    ("for ", ""),
    ("del ", ""),
    ("return ", ""),
    ("global a,", ""),
    ("try:\n", ""),
    ("async ", ""),
    ("lazy ", ""),
    ("print ", ""),
    // What is no program.
    (")", ""),
    ("]", ""),
    ("}", ""),
    ("'", ""),
    ("\"\"\"", ""),
    ("f'", ""),
    ("\\\n", ""),
    ("\\", ""),
    ("\n", ""),
    (" ", ""),
    ("\n ", ""),
    ("\t\n", ""),
    ("\u{c}", ""),
    ("\r", ""),
    ("#", ""),
    ("9", ""),
    ("0x", ""),
    ("1_", ""),
    ("1e", ""),
    (".", ""),
    (":", ""),
    ("!", ""),
    ("$", ""),
    ("?", ""),
    ("%", ""),
    ("`", ""),
    ("\0", ""),
    ("\u{feff}", ""),
    ("é", ""),
    ("ｏ", ""),
    ("ﷺ", ""),
    ("\u{10ffff}", ""),
    ("𝐚", ""),
    ("'\\N{DASH}' ", ""),
    ("eval(", ")"),
    ("(eval)", ""),
    ("import os,", ""),
];

/// What may stand before: where it matters which kind of thing is nested.
pub const BEGINNINGS: &[&str] = &[
    "",
    "x = ",
    "if ",
    "with (",
    "with ",
    "match ",
    "match x:\n case ",
    "match x:\n case [",
    "for ",
    "del ",
    "f(",
    "lambda ",
    "def f(a=",
    "def f[T:",
    "type X[T = ",
    "class A(",
    "@",
    "f'{",
    "x: ",
    "async def f():\n await ",
    "return ",
    "assert ",
];

/// `text` is repeated as often as the length allows, with an end for each: at most [`CHARS`] characters.
pub fn nested(beginning: &str, pieces: &[(&str, &str)], innermost: &str, closed: bool) -> String {
    let used = beginning.chars().count() + innermost.chars().count();
    let mut left = CHARS.saturating_sub(used);
    let mut open = Vec::new();
    for piece in pieces.iter().cycle() {
        let end = if closed { piece.1.chars().count() } else { 0 };
        let cost = piece.0.chars().count() + end;
        if cost == 0 || cost > left {
            break;
        }
        left -= cost;
        open.push(piece);
    }
    let mut program = String::from(beginning);
    program.extend(open.iter().map(|piece| piece.0));
    program.push_str(innermost);
    if closed {
        program.extend(open.iter().rev().map(|piece| piece.1));
    }
    program
}

/// The same, indented one level further with each line, as deep as [`CHARS`] allow.
pub fn indented(line: &str) -> String {
    let mut program = String::new();
    for level in 0.. {
        let next = format!("{}{line}\n", " ".repeat(level));
        if program.chars().count() + next.chars().count() > CHARS - 200 {
            program.push_str(&format!("{}os\n", " ".repeat(level)));
            return program;
        }
        program.push_str(&next);
    }
    program
}

/// Every beginning with every piece, not closed; and every piece closed. A name of the policy stands in each, or nobody
/// would read them.
pub fn all() -> impl Iterator<Item = String> {
    let nests = BEGINNINGS.iter().flat_map(|beginning| {
        PIECES.iter().flat_map(move |piece| {
            let also_closed = if beginning.is_empty() { 2 } else { 1 };
            [false, true]
                .into_iter()
                .take(also_closed)
                .map(move |closed| nested(beginning, &[*piece], "os", closed))
        })
    });
    let blocks = [
        "if a:",
        "class A:",
        "def f():",
        "for a in a:",
        "while a:",
        "with a:",
        "try:",
        "match a:",
        "case a:",
        "else:",
        "async def f():",
    ];
    nests.chain(blocks.into_iter().map(indented))
}
