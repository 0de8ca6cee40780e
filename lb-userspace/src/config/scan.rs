//! Paths that are needed even of a file that does not parse: where the state is, and where the daemon listens. A scan of
//! the text's lines; everything else is read by the parser, or not at all.

use std::path::PathBuf;

use super::defaults;

/// A key of `[control]` whose value is a path. No other section has a key of the same name, so its line is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKey {
    /// `control.socket`.
    Socket,
    /// `control.state_dir`.
    StateDir,
}

impl PathKey {
    fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::StateDir => "state_dir",
        }
    }

    fn default(self) -> &'static str {
        match self {
            Self::Socket => defaults::SOCKET,
            Self::StateDir => defaults::STATE_DIR,
        }
    }
}

/// The key's value in the text of a file that does not parse, or its default.
pub fn path_in(text: &str, key: PathKey) -> PathBuf {
    let value = |line: &str| {
        let value = line.trim().strip_prefix(key.name())?.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (path, _) = value[1..].split_once(quote)?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    text.lines().find_map(value).unwrap_or_else(|| key.default().into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    const BROKEN: &str = "[control]\nstate_dir = \"/srv/state\"\nsocket='/srv/sock' # ours\n[[service]]\nname = = 3\n";

    #[test]
    fn each_path_is_found_in_a_file_that_does_not_parse() {
        for text in [BROKEN.to_owned(), format!("<<<<<<< HEAD\n{BROKEN}")] {
            assert_eq!(path_in(&text, PathKey::StateDir), Path::new("/srv/state"));
            assert_eq!(path_in(&text, PathKey::Socket), Path::new("/srv/sock"));
        }
    }

    #[rstest]
    #[case::garbage("\0")]
    #[case::relative("[control]\nstate_dir = \"relative\"\nsocket = \"relative\"")]
    #[case::other_key("[control]\nstate_dir_of = \"/srv\"\nsocket_of = \"/srv\"")]
    #[case::comment("# state_dir = \"/srv\"\n# socket = \"/srv\"")]
    #[case::unfinished("state_dir = \"/srv\nsocket = \"/srv")]
    fn path_that_is_nowhere_is_the_default(#[case] text: &str) {
        assert_eq!(path_in(text, PathKey::StateDir), Path::new(defaults::STATE_DIR));
        assert_eq!(path_in(text, PathKey::Socket), Path::new(defaults::SOCKET));
    }
}
