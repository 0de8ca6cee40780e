//! A child process that cannot outlive its guard, with its output in a file.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::testbed::poll;

/// A running child, leader of its own process group. Dropping the guard kills the group.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    detached: bool,
}

impl Process {
    /// Starts `command`, its output appended to `log`.
    #[track_caller]
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log).expect("the testbed's folder is writable");
        command.stdin(Stdio::null()).stdout(open()).stderr(open()).process_group(0);
        let child = command.spawn().unwrap_or_else(|e| {
            panic!("{name}: cannot start {:?}: {e}; `cargo xtask setup` installs it", command.get_program())
        });
        Self { name: name.to_owned(), child, log: log.to_owned(), detached: false }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal` to the leader.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.leader(), signal)
            .unwrap_or_else(|e| panic!("{}: cannot send {signal} to {}: {e}", self.name, self.pid()));
    }

    /// Kills the whole group at once and reaps the leader.
    pub fn kill(&mut self) {
        // A group that is gone already is what was wanted.
        let _ = killpg(self.leader(), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{}: the end of process {}", self.name, self.pid());
        poll::until(deadline, &what, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(e) => Err(e.to_string()),
        })
    }

    /// The last lines of its output.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Leaves it running when the guard goes.
    pub fn detach(&mut self) {
        self.detached = true;
    }

    fn leader(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let tail = if std::thread::panicking() { self.tail() } else { String::new() };
        if !tail.is_empty() {
            eprintln!("--- {} ({}):\n{tail}", self.name, self.log.display());
        }
        if !self.detached {
            self.kill();
        }
    }
}
