//! The configuration: text, raw form, checked model ("parse, don't validate"), and edits that keep comments.
//!
//! Owns everything between the file's text and a [`model::Config`] that cannot be wrong: [`raw`] reads each value and
//! remembers where it stood, [`check`] holds the rules that span items, [`edit`] changes the text, [`diff`] says in
//! words what changed. [`keys`] is the one table of keys, from which unknown keys, the example file and the reference
//! in the documentation are made. It does not decide when a file is read or what happens to the running state.

mod check;
pub mod defaults;
pub mod diff;
mod duration;
pub mod edit;
mod error;
mod example;
mod keys;
mod lint;
pub mod memory;
pub mod model;
mod raw;
mod scan;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

pub use error::{ConfigError, ConfigErrors, Problem};
pub use example::default_text;
pub use lint::{NO_ROUTE, is_deaf, lint};
use model::Config;
pub use scan::{PathKey, path_in};

/// A file that was read and proved.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Its text, as read.
    pub text: String,
    /// [`sha256`] of the text.
    pub sha256: String,
}

/// Reads and parses the file.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let bytes = read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes)
        .map_err(|e| ConfigError::NotUtf8 { path: path.to_owned(), offset: e.utf8_error().valid_up_to() })?;
    let config = parse(&text, path)?;
    let sha256 = sha256(&text);
    Ok(Loaded { config, text, sha256 })
}

/// The bytes of a file, or an error if there are more of them than any configuration has: a device gives them for ever.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = defaults::MAX_FILE_BYTES;
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// The text of a file that may be no configuration; `None` if it cannot be read as one.
pub fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(read(path).ok()?).ok()
}

/// Parses a configuration. `file` is only named in errors. Either the result holds every rule, or all errors found are
/// returned, in the order of the text; after an error of TOML's syntax nothing else is looked at.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
    let report = error::Report::new(text, file);
    let config = raw::read(text, &report).map(|raw| check::check(raw, &report));
    report.into_result(config)
}

/// Reads a duration as the file has them: `90s`, `1h30m`.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    duration::parse(text)
}

/// The SHA-256 of a text in lower-case hex: what a revision is recognized by.
pub fn sha256(text: &str) -> String {
    use std::fmt::Write;
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        hex
    })
}
