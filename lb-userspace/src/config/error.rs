//! What is wrong with a configuration, where, why, and what to do; and how problems are collected.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::model::Config;
use crate::control::daemon::{ControlError, ErrorCode};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key's path, e.g. `service.web.member.s1.weight`; empty for an error of TOML's syntax.
    pub key: String,
    /// The value as written, shortened; `None` where something is missing or there is no one value.
    pub value: Option<String>,
    /// The rule that is broken.
    pub rule: String,
    /// What to do.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        match (&self.value, self.key.is_empty()) {
            (_, true) => {}
            (Some(value), false) => write!(f, "{} = {value}: ", self.key)?,
            (None, false) => write!(f, "{}: ", self.key)?,
        }
        f.write_str(&self.rule)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "; {}", self.mend) }
    }
}

/// Everything wrong with one text; at least one problem, in the order of the text. Displays as one line for each,
/// `file:line:column: key = value: rule; mend`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// The problems.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{problem}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Why a file gave no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("{}: cannot be read: {source}; see that the file exists and this user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is no text.
    #[error("{}: is not UTF-8 at byte {offset}; save the file as UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first bad byte, from 0.
        offset: usize,
    },
    /// It breaks rules.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl ConfigError {
    /// Its class: what this user may not read is not wrong.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => ErrorCode::Permission,
            _ => ErrorCode::Config,
        }
    }
}

impl From<ConfigErrors> for ControlError {
    fn from(errors: ConfigErrors) -> Self {
        Self { code: ErrorCode::Config, message: errors.to_string(), hint: None }
    }
}

impl From<ConfigError> for ControlError {
    fn from(error: ConfigError) -> Self {
        Self { code: error.code(), message: error.to_string(), hint: None }
    }
}

/// Where a value stands: the path of its key, and its bytes in the text.
#[derive(Clone, Debug)]
pub(super) struct At {
    /// The key's path.
    pub(super) key: String,
    /// Bytes of the value, or of the table that lacks it.
    pub(super) span: Range<usize>,
}

/// Collects the problems of one text.
pub(super) struct Report<'t> {
    text: &'t str,
    file: &'t Path,
    problems: RefCell<Vec<(usize, Problem)>>,
}

impl<'t> Report<'t> {
    /// Begins with no problem.
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        Self { text, file, problems: RefCell::default() }
    }

    /// Notes that the value at `at` breaks `rule`.
    pub(super) fn value(&self, at: &At, rule: impl Into<String>, mend: impl Into<String>) {
        self.push(at, Some(excerpt(&self.text[at.span.clone()])), rule.into(), mend.into());
    }

    /// Notes that what stands at `at`, or is missing there, breaks `rule`.
    pub(super) fn place(&self, at: &At, rule: impl Into<String>, mend: impl Into<String>) {
        self.push(at, None, rule.into(), mend.into());
    }

    /// The line, from 1, on which `at` begins.
    pub(super) fn line(&self, at: &At) -> usize {
        self.position(at.span.start).0
    }

    fn push(&self, at: &At, value: Option<String>, rule: String, mend: String) {
        let (line, column) = self.position(at.span.start);
        let problem = Problem { line, column, key: at.key.clone(), value, rule, mend };
        self.problems.borrow_mut().push((at.span.start, problem));
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The problems, or the configuration if there is none.
    pub(super) fn into_result(self, config: Option<Config>) -> Result<Config, ConfigErrors> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(offset, _)| *offset);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => {
                let problems = problems.into_iter().map(|(_, problem)| problem).collect();
                Err(ConfigErrors { file: self.file.to_owned(), problems })
            }
        }
    }
}

/// A value as written, on one line of at most 60 characters.
fn excerpt(text: &str) -> String {
    const MAX: usize = 60;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}
