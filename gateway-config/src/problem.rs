//! A mistake in a configuration, and where it is.

use std::fmt;

/// A value for one key from outside the file: it wins over the file, and a later one over an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// `limits.maxConnections`.
    pub path: String,
    /// As a person types it: `5`, `true`, `redis://…`; a list is separated by commas.
    pub value: String,
    /// Who says so, for messages: `flag --set`, `environment PUSHCLUSTER__…`.
    pub source: String,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file; both count from 1.
    File { line: usize, column: usize },
    /// The `source` of an [`Override`].
    Override(String),
    /// Nobody wrote it: a default, which does not fit what somebody wrote elsewhere.
    Default,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in `limits.maxConnections`; empty when the whole file is meant.
    pub path: String,
    pub place: Place,
    /// What is wrong and what to write instead. Never contains a secret.
    pub message: String,
}

impl Problem {
    /// The line that a person sees: `gateway.yaml:3:7: limits.maxConnections: must be at least 1`.
    #[must_use]
    pub fn in_file<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        Line {
            problem: self,
            file,
        }
    }
}

struct Line<'a> {
    problem: &'a Problem,
    file: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            path,
            place,
            message,
        } = self.problem;
        match place {
            Place::File { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
            Place::Override(source) => write!(f, "{source}: ")?,
            Place::Default => {}
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(message)
    }
}
