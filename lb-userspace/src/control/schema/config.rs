//! `rollcall.config/v1`, the configuration that runs, and `rollcall.config-check/v1`, what is wrong with a file.

use serde::{Deserialize, Serialize};

use super::Document;
use crate::config::model::ConfigOwner;
use crate::control::daemon::View;

/// The configuration that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigFile {
    /// The file it came from.
    pub path: String,
    /// Who edits the file: `cli` or `external`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub owner: ConfigOwner,
    /// Whether the file differs from what runs.
    pub file_differs: bool,
    /// Its text, as last applied.
    pub text: String,
}

/// Whether a file could run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigCheck {
    /// The file.
    pub path: String,
    /// Whether it has no errors.
    pub valid: bool,
    /// All errors found.
    pub problems: Vec<ConfigProblem>,
    /// Services in the file, if it is valid.
    pub services: Option<usize>,
    /// Backends in the file, if it is valid.
    pub backends: Option<usize>,
    /// What is allowed but probably not meant, if it is valid.
    pub warnings: Vec<String>,
}

/// One error of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigProblem {
    /// Line, from 1; null if it belongs to no line.
    pub line: Option<usize>,
    /// Column, from 1.
    pub column: Option<usize>,
    /// What is wrong, and why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Document for ConfigFile {
    const SCHEMA: &'static str = "rollcall.config/v1";
}

impl Document for ConfigCheck {
    const SCHEMA: &'static str = "rollcall.config-check/v1";
}

impl ConfigFile {
    /// From the daemon's picture.
    pub fn new(view: &View) -> Self {
        Self {
            path: view.config_path.display().to_string(),
            owner: view.config.owner,
            file_differs: view.file_differs,
            text: view.config_text.to_string(),
        }
    }
}
