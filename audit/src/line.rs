//! From a record to its line.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::TARGET;

/// A record with what every line begins with. The names of the first three are those of the log's other lines.
#[derive(Serialize)]
struct Whole<'a, T> {
    timestamp: String,
    level: &'static str,
    target: &'static str,
    event: &'static str,
    #[serde(flatten)]
    record: &'a T,
}

/// The line of a record, with its end.
pub fn line<T: Serialize>(event: &'static str, record: &T) -> String {
    let whole = Whole {
        timestamp: format!("{:.3}", Timestamp::now()),
        level: "INFO",
        target: TARGET,
        event,
        record,
    };
    let mut bytes = Vec::with_capacity(512);
    // Structs of texts and numbers, written into memory: there is nothing that could fail.
    let _ = whole.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii));
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// Writes all but printable ASCII as `\u`: control characters, those that turn the direction of writing, those that
/// nobody sees, and letters that look like others.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|char| !matches!(char, ' '..='~')) {
            let (plain, other) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = other.chars();
            let char = chars.next().unwrap_or_default();
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}
