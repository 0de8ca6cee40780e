//! What can be wrong with `state.db`, and whether a retry can help.

use std::path::PathBuf;

/// Why `state.db` could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite said no.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer rollcall wrote it.
    #[error("{path} has schema version {found}, this rollcall knows up to {known}: run the version that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// It opens, but its pages contradict each other.
    #[error("{path} is damaged: {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that SQLite's check found.
        found: String,
    },
}

impl StateError {
    /// Whether what is in the file is no database, or none that can be relied on: no retry will help.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Damaged { .. } => true,
            Self::Newer { .. } => false,
        }
    }
}
