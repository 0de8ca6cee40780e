//! The machine: programs, commands, root.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Finds a program in PATH, or where Debian keeps administrators' programs, which a user's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Runs a command with its output shown; fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command for what it prints; `None` unless it succeeds.
pub fn read(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// How this process comes by root's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// It has them.
    Own,
    /// `sudo` gives them without asking.
    Sudo,
    /// Not at all.
    None,
}

impl Root {
    /// Finds out.
    pub fn find() -> Self {
        let own = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        if own {
            Self::Own
        } else if read(Command::new("sudo").args(["-n", "true"])).is_some() {
            Self::Sudo
        } else {
            Self::None
        }
    }

    /// A command run as root; says what for if that is impossible.
    pub fn command(self, program: impl Into<OsString>, what_for: &str) -> Result<Command> {
        match self {
            Self::Own => Ok(Command::new(program.into())),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", "-E"]).arg(program.into());
                Ok(command)
            }
            Self::None => bail!(
                "{what_for} needs root, and `sudo -n` does not give it. Run this as root, or let sudo work without a \
                 password for this session (`sudo -v`)"
            ),
        }
    }
}
