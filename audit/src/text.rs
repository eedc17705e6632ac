//! A text of bounded length.

use serde::Serialize;

/// Most characters of a text: every name that Kubernetes or a spec can hold (253) stands whole.
pub const MAX_CHARS: usize = 256;

/// A text as it stands in a line: what is longer ends with `…` after [`MAX_CHARS`] characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(match text.char_indices().nth(MAX_CHARS) {
            None => text.to_owned(),
            Some((end, _)) => format!("{}…", &text[..end]),
        })
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        // No more characters than bytes.
        if text.len() <= MAX_CHARS {
            return Self(text);
        }
        Self::from(text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_whole_or_ends_with_an_ellipsis() {
        for whole in ["", "alice", &"é".repeat(MAX_CHARS)] {
            assert_eq!(Text::from(whole), Text(whole.to_owned()));
            assert_eq!(Text::from(whole.to_owned()), Text(whole.to_owned()));
        }
        let cut = Text(format!("{}…", "é".repeat(MAX_CHARS)));
        assert_eq!(Text::from("é".repeat(MAX_CHARS + 1)), cut);
        assert_eq!(Text::from("é".repeat(100_000).as_str()), cut);
    }
}
