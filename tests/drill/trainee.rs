//! `--interactive`: whoever is trained acts with the command line, in the drill's own terminal or in another one. What was
//! done is told afterwards. The story does not wait.

use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use lb_tests::testbed::rollcall::{answer, binary};

use crate::narrator::Narrator;
use crate::stage::Stage;

/// Longest that a command may take, seconds: meanwhile the story is not watched.
const PATIENCE_S: u32 = 5;

/// Whoever is trained.
pub struct Trainee {
    lines: Receiver<String>,
    deeds: Vec<Deed>,
}

/// A command that was given.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Seconds since the beginning.
    pub at: f64,
    /// As it was typed.
    pub command: String,
    /// What it returned.
    pub code: i32,
}

impl Trainee {
    /// Listens to the terminal from now on.
    pub fn listen() -> Self {
        let (send, lines) = channel();
        // It ends with the process: nothing interrupts a read of the terminal.
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, deeds: Vec::new() }
    }

    /// What can be done, as commands to copy.
    pub fn guide(stage: &Stage) -> String {
        let elsewhere = format!(
            "{} --config {}",
            binary().display(),
            stage.rollcall.file().canonicalize().unwrap_or_default().display()
        );
        format!(
            "You are on call for web-01 and web-02. Type here, or act in another terminal by\n\
             \x20 {elsewhere} …\n\
             \x20 status                                          who is in rotation, and who is not, and why\n\
             \x20 backend show web-02                             one server, with its history\n\
             \x20 alerts                                          what fires, and who was told\n\
             \x20 events --since 5m                               what happened\n\
             \x20 backend restore web-02 --owner YOU              bring it back now\n\
             \x20 backend drain web-02 --for 5m --reason '…' --owner YOU\n\
             Nothing waits for you: if you do nothing, the story goes on by itself. Ctrl-C ends it.\n"
        )
    }

    /// Carries out what was typed since the last call.
    pub fn act(&mut self, stage: &Stage, narrator: &Narrator, story: &'static str) {
        while let Ok(line) = self.lines.try_recv() {
            let line = line.trim();
            let command = line.strip_prefix("rollcall ").unwrap_or(line);
            if command.is_empty() {
                continue;
            }
            let at = narrator.now();
            // By a shell, so that quotes mean what they mean there; with an end, since some commands have none.
            let script = format!("exec timeout {PATIENCE_S} \"$0\" --config \"$1\" --socket \"$2\" {command}");
            let mut shell: Command = stage.bed.edge.command("sh");
            shell.args(["-c", &script]).arg(binary()).arg(stage.rollcall.file()).arg(stage.rollcall.socket());
            let done = answer(&mut shell);
            narrator.say_at(at, story, &format!("you: rollcall {command}"));
            let said = done.stdout.lines().chain(done.stderr.lines()).filter(|line| !line.trim().is_empty());
            said.for_each(|line| eprintln!("    | {line}"));
            self.deeds.push(Deed { at, command: command.to_owned(), code: done.code });
        }
    }

    /// What was done.
    pub fn deeds(self) -> Vec<Deed> {
        self.deeds
    }
}
