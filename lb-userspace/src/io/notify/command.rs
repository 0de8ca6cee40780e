//! A program of the operator's: no shell, not as root, the alert as JSON on its standard input. It is killed with all it
//! started when its time is over.

use std::io::ErrorKind;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{excerpt, json};
use crate::alert::Message;

/// Most bytes of what it says on standard error that are kept.
const SAID_BYTES: usize = 512;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs it as `user`.
pub(super) async fn send(command: &[String], user: &str, message: &Message) -> Result<(), String> {
    let found = User::from_name(user).map_err(|e| format!("user {user}: {e}"))?;
    let found = found.ok_or_else(|| format!("there is no user {user}"))?;
    let mut input = json(message)?;
    input.push(b'\n');
    run(command, &[], Some(&found), &input).await
}

/// Runs a program with something to read, and waits for its end. Other groups than the user's own are dropped with it.
pub(super) async fn run(words: &[String], more: &[String], user: Option<&User>, input: &[u8]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let mut command = Command::new(program);
    command.args(arguments).args(more).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let mut child = command.spawn().map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied if user.is_some() => {
            format!("{program}: {e}; to run it as another user the daemon needs CAP_SETUID and CAP_SETGID")
        }
        _ => format!("{program}: {e}"),
    })?;
    let mut group = Group(child.id());
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read is judged by its exit code alone.
            let _ = stdin.write_all(input).await;
        }
    };
    let read = async {
        let mut said = Vec::new();
        let Some(mut stderr) = stderr else { return said };
        let mut part = [0; SAID_BYTES];
        // All is read, so that it does not block on what nobody wants to know.
        while let Ok(length @ 1..) = stderr.read(&mut part).await {
            let room = SAID_BYTES - said.len();
            said.extend_from_slice(&part[..length.min(room)]);
        }
        said
    };
    // What it left running may hold its standard error open: that counts as running, until the time is over.
    let ((), status, said) = tokio::join!(write, child.wait(), read);
    // Its id may be another's from now on.
    group.0 = None;
    match status.map_err(|e| format!("{program}: {e}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("{program} ended with {status}: {}", excerpt(&said))),
    }
}

/// Kills the program's group when its time is over: whoever is left of it keeps the id from being another's.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // A group without members is gone already.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
