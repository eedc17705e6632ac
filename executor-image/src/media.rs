//! Which media type a result file has: by its name, as far as its content bears it out.

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";
/// What an editor may have put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Longest of the types.
pub const LONGEST: &str = "application/json";

/// The type; nothing for what is neither text nor one of the known pictures.
///
/// Whoever shows a file goes by its type, so none is given that the content contradicts: text in a file that is called
/// a picture is text.
pub fn media_type(path: &str, content: &[u8]) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    let extension = extension.as_deref().unwrap_or_default();
    match extension {
        "png" if content.starts_with(PNG) => return Some("image/png"),
        "jpg" | "jpeg" if content.starts_with(JPEG) => return Some("image/jpeg"),
        _ => {}
    }
    let text = std::str::from_utf8(content)
        .ok()
        .filter(|text| !text.contains('\0'))?;
    Some(match extension {
        "svg" if is_markup(text) => "image/svg+xml",
        "csv" => "text/csv",
        "json" => LONGEST,
        _ => "text/plain",
    })
}

fn is_markup(text: &str) -> bool {
    text.trim_start_matches(BYTE_ORDER_MARK)
        .trim_start()
        .starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_by_name_and_content() {
        let png: &[u8] = b"\x89PNG\r\n\x1a\n\0\0";
        let jpeg: &[u8] = b"\xff\xd8\xff\xe0\0";
        for (path, content, expected) in [
            ("a.png", png, Some("image/png")),
            ("a/b.c/A.PNG", png, Some("image/png")),
            ("a.jpg", jpeg, Some("image/jpeg")),
            ("a.jpeg", jpeg, Some("image/jpeg")),
            ("a.svg", b"<svg/>", Some("image/svg+xml")),
            ("a.svg", b"\xef\xbb\xbf\n <?xml?>", Some("image/svg+xml")),
            ("a.csv", "é;1\n".as_bytes(), Some("text/csv")),
            ("a.json", b"{}", Some("application/json")),
            ("a.txt", b"", Some("text/plain")),
            ("a.html", b"<p>", Some("text/plain")),
            ("a.PY", b"1", Some("text/plain")),
            ("png", b"1", Some("text/plain")),
            (".csv", b"1", Some("text/csv")),
            ("b.png/a", png, None),
            // What the name promises and the content does not hold.
            ("a.png", jpeg, None),
            ("a.png", b"<script>", Some("text/plain")),
            ("a.svg", b"plain", Some("text/plain")),
            ("a.csv", b"\xff\xfea\0", None),
            ("a.json", b"{\0}", None),
            ("a.txt", b"a\xff", None),
            ("a.gif", b"GIF89a\xff", None),
            ("a.pkl", b"\x80\x04", None),
        ] {
            assert_eq!(media_type(path, content), expected, "{path}");
            assert!(expected.is_none_or(|kind| kind.len() <= LONGEST.len()));
        }
    }
}
