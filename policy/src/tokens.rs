//! Looks for constructs among the tokens of a program that our parser could not read: its tree may lack parts.
//!
//! What it finds too much does no harm, for Python most likely refuses the program as well. So `from x import os` counts
//! here: where a `from` belongs to the import behind it is a question that only a tree answers.

use std::borrow::Cow;

use ruff_python_ast::token::{Token, TokenKind, Tokens};
use ruff_text_size::Ranged;
use unicode_normalization::UnicodeNormalization;

use crate::Places;
use crate::finding::Construct;

/// Adds what stands in a program.
pub fn search(code: &str, tokens: &Tokens, places: &mut Places) {
    let tokens: Vec<&Token> = tokens.iter().filter(|token| !token.kind().is_trivia()).collect();
    let search = Search { code, tokens };
    let mut add = |construct: Option<Construct>, at: usize| {
        if let (Some(construct), Some(token)) = (construct, search.tokens.get(at)) {
            places.add(construct, token.start());
        }
    };
    for at in 0..search.tokens.len() {
        match search.kind(at) {
            TokenKind::Import => {
                let mut name = at + 1;
                loop {
                    add(search.name(name).as_deref().and_then(Construct::of_import), at);
                    match search.next_in_list(name) {
                        Some(next) => name = next,
                        None => break,
                    }
                }
            }
            TokenKind::From if search.kind(search.after_dotted_name(at + 1)) == TokenKind::Import => {
                add(search.name(at + 1).as_deref().and_then(Construct::of_import), at);
            }
            _ => {
                let Some(name) = search.name(at) else { continue };
                add(Construct::of_name(&name), at);
                if search.is_called(at) {
                    add(Construct::of_call(&name), at);
                }
            }
        }
    }
}

struct Search<'a> {
    code: &'a str,
    tokens: Vec<&'a Token>,
}

impl Search<'_> {
    fn kind(&self, at: usize) -> TokenKind {
        self.tokens
            .get(at)
            .map_or(TokenKind::EndOfFile, |token| token.kind())
    }

    /// The name that a token is, as Python reads it.
    fn name(&self, at: usize) -> Option<Cow<'_, str>> {
        let token = self.tokens.get(at)?;
        let text = &self.code[token.range()];
        match token.kind() {
            TokenKind::Name if text.is_ascii() => Some(text.into()),
            TokenKind::Name => Some(text.nfkc().collect::<String>().into()),
            _ => None,
        }
    }

    fn after_dotted_name(&self, mut at: usize) -> usize {
        while matches!(self.kind(at), TokenKind::Name | TokenKind::Dot) {
            at += 1;
        }
        at
    }

    /// From a name behind `import` to the name behind the next comma.
    fn next_in_list(&self, name: usize) -> Option<usize> {
        let is_inside =
            |at: &usize| matches!(self.kind(*at), TokenKind::Name | TokenKind::Dot | TokenKind::As);
        let comma = (name..).find(|at| !is_inside(at))?;
        (self.kind(comma) == TokenKind::Comma).then_some(comma + 1)
    }

    fn is_called(&self, name: usize) -> bool {
        let before = name.checked_sub(1).map(|before| self.kind(before));
        if matches!(before, Some(TokenKind::Dot | TokenKind::Def | TokenKind::Class)) {
            return false;
        }
        let behind = (name + 1..).find(|at| self.kind(*at) != TokenKind::Rpar);
        behind.is_some_and(|at| self.kind(at) == TokenKind::Lpar) || before == Some(TokenKind::At)
    }
}
