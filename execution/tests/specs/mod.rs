//! Specs of all kinds: such as keep every bound, and such as break one.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use codeexec_crds::{CodeExecutionSpec, EnvVar, InputFile, bounds};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// Text as people write it, text as nobody writes it, and characters that take six bytes where they are escaped.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        1 => vec(any::<char>(), 0..20).prop_map(String::from_iter),
        1 => "[\u{1}-\u{1f}\"\\\\]{0,20}",
    ]
}

fn text_without_nul() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\0', ""))
}

/// A character, for what is as long as it may be: each encodes in another way.
fn filling() -> impl Strategy<Value = char> {
    prop_oneof![
        Just('x'),
        Just('"'),
        Just('\u{1}'),
        Just('é'),
        Just('\u{feff}'),
        Just('😀')
    ]
}

/// This many bytes.
fn filled(bytes: usize, with: char) -> String {
    let mut text = with.to_string().repeat(bytes / with.len_utf8());
    text.extend(std::iter::repeat_n('x', bytes - text.len()));
    text
}

fn code() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => text().prop_map(|text| format!("{text}#")),
        1 => filling().prop_map(|char| char.to_string().repeat(bounds::CODE_CHARS)),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[a-z][a-z0-9-]{0,20}",
        1 => text().prop_map(|text| format!("{text}n")),
        1 => filling().prop_map(|char| char.to_string().repeat(bounds::NAME_CHARS)),
    ]
}

fn stdin() -> impl Strategy<Value = String> {
    prop_oneof![4 => text(), 1 => filling().prop_map(|char| filled(bounds::STDIN_BYTES, char))]
}

fn args() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        4 => vec(text_without_nul(), 0..6),
        1 => filling().prop_map(|char| {
            vec![filled(bounds::LIST_BYTES / bounds::LIST_ITEMS, char); bounds::LIST_ITEMS]
        }),
        1 => filling().prop_map(|char| vec![filled(bounds::LIST_BYTES, char)]),
    ]
}

fn variable(name: impl Into<String>, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: value.into(),
    }
}

fn env() -> impl Strategy<Value = Vec<EnvVar>> {
    prop_oneof![
        4 => btree_map("[A-Za-z_][A-Za-z0-9_]{0,20}", text_without_nul(), 0..6).prop_map(|variables| {
            variables.into_iter().map(|(name, value)| variable(name, value)).collect()
        }),
        1 => filling().prop_map(|char| {
            let each = bounds::LIST_BYTES / bounds::LIST_ITEMS;
            (0..bounds::LIST_ITEMS)
                .map(|at| variable(format!("V{at:07}"), filled(each - 8, char)))
                .collect()
        }),
        1 => filling().prop_map(|char| vec![variable("N".repeat(256), filled(bounds::LIST_BYTES - 256, char))]),
    ]
}

fn file(path: impl Into<String>, content: &[u8]) -> InputFile {
    InputFile {
        path: path.into(),
        content: STANDARD.encode(content),
    }
}

/// Paths of which none leads through another.
fn paths() -> impl Strategy<Value = Vec<String>> {
    let part = prop_oneof![
        3 => "[a-c]{1,2}",
        1 => text_without_nul().prop_map(|text| format!("{}f", text.replace('/', ""))),
        1 => Just("...".to_owned()),
    ];
    btree_set(vec(part, 1..4), 0..5).prop_map(|paths| {
        let mut files = BTreeSet::<Vec<String>>::new();
        for path in paths {
            // In this order a folder comes before what is in it.
            let is_free = (1..path.len()).all(|depth| !files.contains(&path[..depth]));
            if is_free && path.iter().map(|part| part.len() + 1).sum::<usize>() <= bounds::PATH_BYTES {
                files.insert(path);
            }
        }
        files.into_iter().map(|path| path.join("/")).collect()
    })
}

fn files() -> impl Strategy<Value = Vec<InputFile>> {
    prop_oneof![
        4 => (paths(), vec(vec(any::<u8>(), 0..40), 5)).prop_map(|(paths, contents)| {
            paths.into_iter().zip(&contents).map(|(path, content)| file(path, content)).collect()
        }),
        1 => (filling(), any::<u8>()).prop_map(|(char, byte)| {
            // Each a multiple of four bytes of base64.
            let content = vec![byte; bounds::FILES_ENCODED_BYTES / bounds::FILES / 4 * 3];
            (0..bounds::FILES)
                .map(|at| file(format!("{at:02}{}", filled(bounds::PATH_BYTES - 2, char)), &content))
                .collect()
        }),
    ]
}

/// A spec that keeps every bound.
pub fn valid() -> impl Strategy<Value = CodeExecutionSpec> {
    let input = (
        option::of(stdin()),
        option::of(args()),
        option::of(env()),
        option::of(files()),
    );
    let rest = (
        bounds::TIMEOUT_SECONDS,
        name(),
        name(),
        bounds::TTL_SECONDS_MIN..,
        any::<bool>(),
    );
    (code(), input, rest).prop_map(|(code, (stdin, args, env, files), rest)| {
        let (timeout_seconds, user, pool, ttl_seconds_after_finished, cancel) = rest;
        CodeExecutionSpec {
            timeout_seconds,
            user,
            pool,
            stdin,
            args,
            env,
            files,
            cancel,
            ttl_seconds_after_finished,
            ..CodeExecutionSpec::python(code)
        }
    })
}

/// What breaks one bound: the field that has to be named, and the change to a good spec.
#[derive(Clone, Debug)]
enum Breach {
    Code(String),
    Timeout(i32),
    Pool(String),
    Stdin(String),
    Args(Vec<String>),
    Env(Vec<EnvVar>),
    Files(Vec<InputFile>),
}

impl Breach {
    fn apply(self, spec: &mut CodeExecutionSpec) {
        match self {
            Self::Code(code) => spec.code = code,
            Self::Timeout(seconds) => spec.timeout_seconds = seconds,
            Self::Pool(pool) => spec.pool = pool,
            Self::Stdin(stdin) => spec.stdin = Some(stdin),
            Self::Args(args) => spec.args = Some(args),
            Self::Env(env) => spec.env = Some(env),
            Self::Files(files) => spec.files = Some(files),
        }
    }
}

/// How many there are of something that is over its bound.
fn above(bound: usize) -> impl Strategy<Value = usize> {
    prop_oneof![Just(bound + 1), bound + 1..2 * bound]
}

fn repeated(bound: usize) -> impl Strategy<Value = String> {
    (above(bound), filling()).prop_map(|(count, char)| char.to_string().repeat(count))
}

/// A spec that breaks one bound, by something that a client of the API can send too, and the field that does.
pub fn broken() -> impl Strategy<Value = (String, CodeExecutionSpec)> {
    let blank = "[ \t\r\n\u{a0}\u{2003}]{0,10}";
    let far = prop_oneof![i32::MIN..1, 31..=i32::MAX];
    let name = prop_oneof![
        Just(String::new()),
        "[0-9][A-Za-z0-9_]{0,5}",
        "[A-Za-z_]{1,5}[-. =\u{e9}\u{0}\n][A-Za-z]{0,5}",
        (257_usize..400).prop_map(|length| "N".repeat(length)),
    ];
    let path = prop_oneof![
        Just(String::new()),
        "/[a-z/]{0,5}",
        "([a-z]{1,3}/)?[.]{1,2}(/[a-z]{1,3})?",
        "[a-z]{1,3}//[a-z]{1,3}",
        "[a-z]{1,3}/",
        "[a-z]{0,3}\u{0}[a-z]{0,3}",
        repeated(bounds::PATH_BYTES),
    ];
    let no_base64 = prop_oneof![
        "[A-Za-z0-9+/]{4}[A-Za-z0-9]", // cut off
        "[A-Za-z0-9]{3}[-_ \n!.\u{e9}\u{0}]",
        Just("A===".to_owned()),
        Just("====".to_owned()),
        Just("AA=A".to_owned()),
        Just("AB==".to_owned()), // bits that belong to no byte
    ];
    let breach = prop_oneof![
        blank.prop_map(|code| ("code".to_owned(), Breach::Code(code))),
        repeated(bounds::CODE_CHARS).prop_map(|code| ("code".to_owned(), Breach::Code(code))),
        far.prop_map(|seconds| ("timeout".to_owned(), Breach::Timeout(seconds))),
        prop_oneof![Just(String::new()), repeated(bounds::NAME_CHARS)]
            .prop_map(|pool| ("pool".to_owned(), Breach::Pool(pool))),
        (above(bounds::STDIN_BYTES), filling())
            .prop_map(|(bytes, char)| ("stdin".to_owned(), Breach::Stdin(filled(bytes, char)))),
        above(bounds::LIST_ITEMS)
            .prop_map(|items| ("args".to_owned(), Breach::Args(vec![String::new(); items]))),
        (above(bounds::LIST_BYTES), filling()).prop_map(|(bytes, char)| {
            (
                "args".to_owned(),
                Breach::Args(vec![filled(bytes, char), String::new()]),
            )
        }),
        (0_usize..60, text(), text()).prop_map(|(at, before, after)| {
            let mut args = vec!["a".to_owned(); at];
            args.push(format!("{before}\0{after}"));
            (format!("args[{at}]"), Breach::Args(args))
        }),
        above(bounds::LIST_ITEMS).prop_map(|items| {
            let env = (0..items).map(|at| variable(format!("V{at}"), "")).collect();
            ("env".to_owned(), Breach::Env(env))
        }),
        (above(bounds::LIST_BYTES), filling()).prop_map(|(bytes, char)| {
            (
                "env".to_owned(),
                Breach::Env(vec![variable("A", filled(bytes - 1, char))]),
            )
        }),
        (name, text_without_nul()).prop_map(|(name, value)| {
            let env = vec![variable("GOOD", "1"), variable(name, value)];
            ("env.".to_owned(), Breach::Env(env))
        }),
        "[A-Z]{1,5}".prop_map(|name| {
            let field = format!("env.{name}");
            let env = vec![variable("good", "1"), variable(&name, "1"), variable(name, "2")];
            (field, Breach::Env(env))
        }),
        ("[A-Z]{1,5}", text(), text()).prop_map(|(name, before, after)| {
            let field = format!("env.{name}");
            (
                field,
                Breach::Env(vec![variable(name, format!("{before}\0{after}"))]),
            )
        }),
        above(bounds::FILES).prop_map(|count| {
            let files = (0..count).map(|at| file(at.to_string(), b"")).collect();
            ("files".to_owned(), Breach::Files(files))
        }),
        above(bounds::FILES_ENCODED_BYTES).prop_map(|bytes| {
            let content = "A".repeat(bytes);
            let files = vec![InputFile {
                path: "a".to_owned(),
                content,
            }];
            ("files".to_owned(), Breach::Files(files))
        }),
        path.prop_map(|path| {
            let files = vec![file("good", b"1"), file(path, b"2")];
            ("files[1].path".to_owned(), Breach::Files(files))
        }),
        paths().prop_filter_map("no path to give twice", |paths| {
            let first = paths.first()?;
            let mut files: Vec<InputFile> = paths.iter().map(|path| file(path, b"")).collect();
            files.push(file(first, b"x"));
            Some((format!("files[{}].path", paths.len()), Breach::Files(files)))
        }),
        ("[a-z]{1,3}", "[a-z]{1,3}(/[a-z]{1,3})?", any::<bool>()).prop_map(|(folder, name, comes_first)| {
            let mut files = vec![file(&folder, b""), file(format!("{folder}/{name}"), b"")];
            if comes_first {
                files.swap(0, 1);
            }
            (
                format!("files[{}].path", usize::from(!comes_first)),
                Breach::Files(files),
            )
        }),
        no_base64.prop_map(|content| {
            let files = vec![InputFile {
                path: "a".to_owned(),
                content,
            }];
            ("files[0].content".to_owned(), Breach::Files(files))
        }),
    ];
    (valid(), breach).prop_map(|(mut spec, (field, breach))| {
        breach.apply(&mut spec);
        (field, spec)
    })
}
