//! From the bytes of a request to the spec that it asks for. No I/O, and no input that it panics on.
//!
//! The body is read into a small tree first and into the spec afterwards, because the checks have an order
//! (JSON, code, language, the rest) that the order of the keys must not change, because a key given twice
//! must not pass silently, and because each message has to name its field. The tree's size is bounded, so
//! that a body of nothing but brackets can't be blown up to many times its length.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use codeexec_crds::{CodeExecutionSpec, EnvVar, InputFile, bounds};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Most values in a body. The largest request within its bounds has about 300.
const MAX_VALUES: usize = 4096;

/// Longest name that a message repeats.
const MAX_NAME_CHARS: usize = 64;

/// The fields of a request.
pub(crate) const FIELDS: [&str; 8] = [
    "code", "language", "timeout", "stdin", "args", "env", "files", "pool",
];

/// Why a body is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has no bytes.
    #[error("the request body is empty; it must be a JSON object")]
    Empty,
    /// It is not text.
    #[error("the request body is not UTF-8 (byte {0})")]
    NotUtf8(usize),
    /// It is text, but no JSON; what the parser says, and where.
    #[error("the request body is not valid JSON: {0}")]
    NotJson(String),
    /// It is JSON, but no object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// It holds more values than any request has.
    #[error("the request body holds more than {MAX_VALUES} values")]
    TooManyValues,
    /// There is no code, or only white space.
    #[error("Code is required")]
    CodeRequired,
    /// There is no language, or another one.
    #[error("Only Python is supported currently")]
    UnsupportedLanguage,
    /// A field is not what it must be.
    #[error("{field} {rule}")]
    Field {
        /// Its name, such as `files[0].path`.
        field: String,
        /// What it must be.
        rule: &'static str,
    },
}

/// Reads a body. What it returns has the right types; whether it keeps the bounds, [`codeexec_execution::validate`] tells.
///
/// # Errors
/// The first thing that is wrong, in the order JSON, code, language, the rest.
pub fn parse(body: &[u8]) -> Result<CodeExecutionSpec, BodyError> {
    let mut fields = Fields::read(body)?;
    let code = match fields.take("code") {
        Node::Null => return Err(BodyError::CodeRequired),
        Node::Text(code) if code.trim().is_empty() => return Err(BodyError::CodeRequired),
        Node::Text(code) => code,
        _ => return Err(must("code", "must be a string")),
    };
    if !matches!(fields.take("language"), Node::Text(language) if language == "python") {
        return Err(BodyError::UnsupportedLanguage);
    }
    if let Some((name, _)) = fields.0.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return Err(must(shown(name), "is not a known field"));
    }
    let mut spec = CodeExecutionSpec::python(code);
    if let Some(seconds) = timeout(&fields.take("timeout"))? {
        spec.timeout_seconds = seconds;
    }
    spec.stdin = optional_text("stdin", fields.take("stdin"))?;
    spec.args = args(fields.take("args"))?;
    spec.env = env(fields.take("env"))?;
    spec.files = files(fields.take("files"))?;
    if let Some(pool) = optional_text("pool", fields.take("pool"))? {
        spec.pool = pool;
    }
    Ok(spec)
}

fn must(field: impl Into<String>, rule: &'static str) -> BodyError {
    BodyError::Field {
        field: field.into(),
        rule,
    }
}

/// A name that a client chose, fit for a message.
fn shown(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(MAX_NAME_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(MAX_NAME_CHARS).is_some() {
        shown.push('…');
    }
    if shown.is_empty() {
        "\"\"".to_owned()
    } else {
        shown
    }
}

fn timeout(node: &Node) -> Result<Option<i32>, BodyError> {
    const RULE: &str = "must be a whole number of seconds from 1 to 30";
    let (min, max) = (*bounds::TIMEOUT_SECONDS.start(), *bounds::TIMEOUT_SECONDS.end());
    match node {
        Node::Null => Ok(None),
        // 30.0 is what some languages make of 30. Within these bounds the conversion is exact.
        Node::Number(number)
            if number.fract() == 0.0 && (f64::from(min)..=f64::from(max)).contains(number) =>
        {
            #[allow(clippy::cast_possible_truncation)]
            Ok(Some(*number as i32))
        }
        _ => Err(must("timeout", RULE)),
    }
}

fn optional_text(field: &'static str, node: Node) -> Result<Option<String>, BodyError> {
    match node {
        Node::Null => Ok(None),
        Node::Text(text) => Ok(Some(text)),
        _ => Err(must(field, "must be a string")),
    }
}

fn args(node: Node) -> Result<Option<Vec<String>>, BodyError> {
    let items = match node {
        Node::Null => return Ok(None),
        Node::List(items) => items,
        _ => return Err(must("args", "must be a list of strings")),
    };
    let text = |(at, item)| match item {
        Node::Text(text) => Ok(text),
        _ => Err(must(format!("args[{at}]"), "must be a string")),
    };
    items
        .into_iter()
        .enumerate()
        .map(text)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn env(node: Node) -> Result<Option<Vec<EnvVar>>, BodyError> {
    let entries = match node {
        Node::Null => return Ok(None),
        Node::Map(entries) => entries,
        _ => return Err(must("env", "must be an object of strings")),
    };
    let variable = |(name, value)| match value {
        Node::Text(value) => Ok(EnvVar { name, value }),
        _ => Err(must(format!("env.{}", shown(&name)), "must be a string")),
    };
    entries
        .into_iter()
        .map(variable)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn files(node: Node) -> Result<Option<Vec<InputFile>>, BodyError> {
    let items = match node {
        Node::Null => return Ok(None),
        Node::List(items) => items,
        _ => return Err(must("files", "must be a list of objects")),
    };
    items
        .into_iter()
        .enumerate()
        .map(|(at, item)| file(at, item))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn file(at: usize, item: Node) -> Result<InputFile, BodyError> {
    let Node::Map(entries) = item else {
        return Err(must(format!("files[{at}]"), "must be an object"));
    };
    let mut fields = Fields(entries);
    let mut text = |name: &str| match fields.take(name) {
        Node::Text(text) => Ok(text),
        Node::Null => Err(must(format!("files[{at}].{name}"), "is required")),
        _ => Err(must(format!("files[{at}].{name}"), "must be a string")),
    };
    let file = InputFile {
        path: text("path")?,
        content: text("content")?,
    };
    match fields.0.first() {
        Some((name, _)) => Err(must(
            format!("files[{at}].{}", shown(name)),
            "is not a known field",
        )),
        None => Ok(file),
    }
}

/// A JSON value. Numbers are only ever timeouts, so that they need no more than an `f64`.
#[derive(Debug)]
enum Node {
    Null,
    Bool,
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

struct Fields(Vec<(String, Node)>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, BodyError> {
        if body.is_empty() {
            return Err(BodyError::Empty);
        }
        let text = std::str::from_utf8(body).map_err(|error| BodyError::NotUtf8(error.valid_up_to()))?;
        let reading = Reading::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let node = Seed(&reading)
            .deserialize(&mut deserializer)
            .and_then(|node| deserializer.end().map(|()| node));
        match node {
            Ok(Node::Map(fields)) => Ok(Self(fields)),
            Ok(_) => Err(BodyError::NotAnObject),
            Err(error) => Err(reading.error(&error)),
        }
    }

    /// The field's value; null where it is absent, which means the same everywhere.
    fn take(&mut self, name: &str) -> Node {
        match self.0.iter().position(|(field, _)| field == name) {
            Some(at) => self.0.swap_remove(at).1,
            None => Node::Null,
        }
    }
}

/// What one reading has come to.
#[derive(Default)]
struct Reading {
    values: Cell<usize>,
    /// The names and places that lead to the value being read. An error leaves it as it stood there.
    path: RefCell<Vec<String>>,
    /// What we object to ourselves; the parser's own error then only carries it out.
    objection: RefCell<Option<BodyError>>,
}

impl Reading {
    fn object<E: Error>(&self, objection: BodyError) -> E {
        let carrier = E::custom(&objection);
        self.objection.replace(Some(objection));
        carrier
    }

    fn error(&self, error: &serde_json::Error) -> BodyError {
        if let Some(objection) = self.objection.take() {
            return objection;
        }
        let path = self.path.borrow();
        let mut text = error.to_string();
        // The parser reads on after the first half of a pair, and misses the second half's beginning.
        if text.starts_with("unexpected end of hex escape") {
            text = text.replacen("unexpected end of hex escape", "lone surrogate in hex escape", 1);
        }
        if !path.is_empty() {
            text = format!("{text}, in {}", joined(&path));
        }
        BodyError::NotJson(text)
    }
}

fn joined(path: &[String]) -> String {
    // Nesting goes 128 deep; the outermost few name the field.
    path.iter()
        .take(3)
        .cloned()
        .collect::<String>()
        .trim_start_matches('.')
        .to_owned()
}

#[derive(Clone, Copy)]
struct Seed<'a>(&'a Reading);

impl Seed<'_> {
    fn below<T, E>(self, step: String, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.0.path.borrow_mut().push(step);
        let value = read()?;
        self.0.path.borrow_mut().pop();
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let values = self.0.values.get() + 1;
        self.0.values.set(values);
        if values > MAX_VALUES {
            return Err(self.0.object(BodyError::TooManyValues));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    #[allow(clippy::cast_precision_loss)] // exact wherever a timeout is in bounds
    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss)] // the same
    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = self.below(format!("[{}]", items.len()), || access.next_element_seed(self))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut names = HashSet::new();
        let mut entries = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            let step = format!(".{}", shown(&name));
            if !names.insert(name.clone()) {
                self.0.path.borrow_mut().push(step);
                let field = joined(&self.0.path.borrow());
                return Err(self.0.object(must(field, "must be given once")));
            }
            let value = self.below(step, || access.next_value_seed(self))?;
            entries.push((name, value));
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
#[path = "body_tests.rs"]
mod tests;
