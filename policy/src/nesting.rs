//! A bound of nesting, counted on the tokens before anything is parsed.
//!
//! It is there for time, not for safety: parsing ten thousand brackets takes 30 ms, most of it for the memory of a very
//! deep stack, and ten thousand that are not nested a tenth of it. No program that runs has as many.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::Mode;
use ruff_python_parser::lexer::lex;

/// Brackets within brackets, those of f-strings too. Python takes as many (`MAXLEVEL` of its tokenizer), and refuses
/// what is nested deeper.
const BRACKETS: usize = 200;

/// Prefix operators in a row, as in `--1` or `not not x`. Python takes some thousands; the number is that of brackets,
/// which is far beyond what anybody writes.
const PREFIXES: usize = 200;

/// Whether a program is nested deeper than the bounds.
pub fn is_too_deep(code: &str) -> bool {
    // Whatever stands in it, it can't be.
    if code.len() <= BRACKETS.min(PREFIXES) {
        return false;
    }
    let mut tokens = lex(code, Mode::Module);
    let (mut brackets, mut prefixes) = (0_usize, 0_usize);
    loop {
        let kind = tokens.next_token();
        match kind {
            TokenKind::EndOfFile => return false,
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace => brackets += 1,
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        match kind {
            TokenKind::Plus
            | TokenKind::Minus
            | TokenKind::Tilde
            | TokenKind::Star
            | TokenKind::DoubleStar
            | TokenKind::Not
            | TokenKind::Await => prefixes += 1,
            kind if kind.is_trivia() => {}
            _ => prefixes = 0,
        }
        if brackets > BRACKETS || prefixes > PREFIXES {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_brackets_pass_as_python_takes() {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("a(", ")"),
            ("{a: ", "}"),
            ("(\n# (((\n", ")"),
        ] {
            let nested = |depth: usize| format!("x = {}1{}", open.repeat(depth), close.repeat(depth));
            assert!(!is_too_deep(&nested(200)), "{open}");
            assert!(is_too_deep(&nested(201)), "{open}");
        }
        assert!(is_too_deep(&"f'{".repeat(201)));
        assert!(!is_too_deep(&"(a) ".repeat(2000)));
        assert!(!is_too_deep(&format!("x = '{}'", "(".repeat(5000))));
    }

    #[test]
    fn prefix_operators_are_counted_in_a_row() {
        for prefix in ["-", "~ ", "not ", "await ", "- # -\n"] {
            let row = |length: usize| format!("x = ({}1)", prefix.repeat(length));
            assert!(!is_too_deep(&row(200)), "{prefix}");
            assert!(is_too_deep(&row(201)), "{prefix}");
        }
        assert!(!is_too_deep(&format!("x = {}1", "-1 - ".repeat(2000))));
    }
}
