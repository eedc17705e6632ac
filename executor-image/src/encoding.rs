//! How much room text takes in an object of the Kubernetes API.

/// Bytes of `text` as the Kubernetes API server encodes it in JSON, without the quotes.
///
/// Go's encoder writes `<`, `>`, `&`, U+2028, U+2029 and most control characters as six bytes; serde_json
/// does not, so the length of our own encoding says little about what etcd has to hold.
#[must_use]
pub fn encoded_len(text: &str) -> usize {
    text.chars().map(encoded_char_len).sum()
}

/// The longest prefix of `text`, cut between characters, that encodes to at most `limit` bytes.
#[must_use]
pub fn encoded_prefix(text: &str, limit: usize) -> &str {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += encoded_char_len(character);
        if used > limit {
            return &text[..at];
        }
    }
    text
}

/// The longest suffix of `text`, cut between characters, that encodes to at most `limit` bytes.
#[must_use]
pub fn encoded_suffix(text: &str, limit: usize) -> &str {
    let mut used = 0;
    for (at, character) in text.char_indices().rev() {
        used += encoded_char_len(character);
        if used > limit {
            return &text[at + character.len_utf8()..];
        }
    }
    text
}

/// Bytes that a result file takes in a status: its three texts, and the names, quotes and braces around them.
#[must_use]
pub fn encoded_file_len(path: &str, mime_type: &str, content: &str) -> usize {
    const AROUND: usize = r#"{"path":"","mimeType":"","content":""},"#.len();
    // Base64 encodes to itself.
    AROUND + encoded_len(path) + encoded_len(mime_type) + content.len()
}

fn encoded_char_len(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_count_as_go_encodes_them() {
        assert_eq!(encoded_len("a\"\n"), 5);
        assert_eq!(encoded_len("<>&\0\u{1b}\u{2028}"), 36);
        assert_eq!(encoded_len("é€😀"), 9);
    }

    #[test]
    fn a_prefix_ends_between_characters_and_within_the_limit() {
        assert_eq!(encoded_prefix("ab<c", 7), "ab");
        assert_eq!(encoded_prefix("ab<c", 8), "ab<");
        assert_eq!(encoded_prefix("€€", 5), "€");
        assert_eq!(encoded_prefix("abc", 100), "abc");
    }

    #[test]
    fn a_suffix_begins_between_characters_and_within_the_limit() {
        assert_eq!(encoded_suffix("c<ba", 7), "ba");
        assert_eq!(encoded_suffix("c<ba", 8), "<ba");
        assert_eq!(encoded_suffix("€€", 5), "€");
        assert_eq!(encoded_suffix("abc", 100), "abc");
        assert_eq!(encoded_suffix("abc", 0), "");
    }
}
