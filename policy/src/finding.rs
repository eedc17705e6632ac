//! What can be found, and how it is told.

use std::fmt;

/// What the policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Construct {
    /// An import of `os`, of one of its modules, or of something from them.
    ImportOs,
    /// The same of `subprocess`.
    ImportSubprocess,
    /// The same of `sys`.
    ImportSys,
    /// The name `__import__`, whatever is done with it.
    DunderImport,
    /// A call of the bare name `eval`.
    Eval,
    /// A call of the bare name `exec`.
    Exec,
    /// A call of the bare name `compile`.
    Compile,
    /// Brackets or operators are nested deeper than the policy reads: 200 levels.
    TooDeep,
    /// The parser failed on the program, by a defect of its own, so nobody knows what stands in it.
    Unreadable,
}

impl Construct {
    /// How users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImportOs => "import os",
            Self::ImportSubprocess => "import subprocess",
            Self::ImportSys => "import sys",
            Self::DunderImport => "__import__",
            Self::Eval => "eval(",
            Self::Exec => "exec(",
            Self::Compile => "compile(",
            Self::TooDeep => "more than 200 levels of nesting",
            Self::Unreadable => "what it could not read",
        }
    }

    /// What the import of a module is, given as in `import os.path`.
    pub(crate) fn of_import(module: &str) -> Option<Self> {
        match module.split('.').next() {
            Some("os") => Some(Self::ImportOs),
            Some("subprocess") => Some(Self::ImportSubprocess),
            Some("sys") => Some(Self::ImportSys),
            _ => None,
        }
    }

    /// What the call of a bare name is.
    pub(crate) fn of_call(name: &str) -> Option<Self> {
        match name {
            "eval" => Some(Self::Eval),
            "exec" => Some(Self::Exec),
            "compile" => Some(Self::Compile),
            _ => None,
        }
    }

    /// What the mere mention of a name, or of a dotted one, is.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        name.split('.')
            .any(|part| part == "__import__")
            .then_some(Self::DunderImport)
    }
}

impl fmt::Display for Construct {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A construct that the policy names, and where it stands. Displayed as a sentence for whoever wrote the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub construct: Construct,
    /// Its line, from 1. Lines end where Python ends them: at LF, CR LF, or CR.
    pub line: usize,
    /// The column of its first character, from 1, in Unicode code points: a tab is one column, and so is a letter that
    /// takes four bytes. A byte order mark before the first line is none.
    pub column: usize,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            construct,
            line,
            column,
        } = self;
        match construct {
            Construct::TooDeep | Construct::Unreadable => {
                write!(formatter, "the policy does not allow {construct}")
            }
            _ => write!(
                formatter,
                "the policy does not allow `{construct}` (line {line}, column {column})"
            ),
        }
    }
}
