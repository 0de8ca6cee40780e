//! Where output goes: table or JSON, colour or none, and a reader that may have gone.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;

use super::Outcome;
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::{Document, Envelope};

/// What reading verbs print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs; the schemas are documented and stable.
    Json,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    fn paint(self, terminal: bool) -> Paint {
        let wanted = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
                terminal && !refused && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
            }
        };
        Paint(wanted)
    }
}

/// Colours, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint(pub(super) bool);

/// What a piece of text means; the colour follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
}

impl Paint {
    /// The text in its tone's colour.
    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Warn => 33,
            Tone::Bad => 31,
            Tone::Dim => 2,
            Tone::Bold => 1,
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) paint: Paint,
    pub(super) terminal: bool,
}

impl Output {
    pub(super) fn new(format: Format, colour: Colour) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { format, paint: colour.paint(terminal), terminal }
    }

    /// Prints a document: as JSON, or as `render` shows it.
    pub(super) fn show<T: Document>(&self, document: T, render: impl FnOnce(&T, Paint) -> String) -> Outcome {
        match self.format {
            Format::Table => self.print(&render(&document, self.paint))?,
            Format::Json => self.print(&(json(&Envelope::new(document), self.terminal)? + "\n"))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints a document as one line of JSON.
    pub(super) fn show_line<T: Document>(&self, document: T) -> Result<(), ControlError> {
        self.print(&(json(&Envelope::new(document), false)? + "\n"))
    }

    /// Prints text. A reader that has gone (`rollcall flows | head`) ends the command quietly.
    pub(super) fn print(&self, text: &str) -> Result<(), ControlError> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            Err(e) => Err(ControlError::new(ErrorCode::System, format!("cannot write to standard output: {e}"))),
            Ok(()) => Ok(()),
        }
    }
}

/// On one line for programs, indented for people.
fn json(value: &impl serde::Serialize, indented: bool) -> Result<String, ControlError> {
    if indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }
        .map_err(|e| ControlError::new(ErrorCode::System, format!("cannot write JSON: {e}")))
}

/// Prints an error: what, where, why, and what to do.
pub(super) fn print_error(error: &ControlError, colour: Colour) {
    let paint = colour.paint(std::io::stderr().is_terminal());
    // Where standard error is closed there is no one left to tell.
    let _ = std::io::stderr().write_all(render_error(error, paint).as_bytes());
}

fn render_error(error: &ControlError, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.text(Tone::Bad, "error:"), error.message);
    if let Some(hint) = &error.hint {
        text += &format!("{} {hint}\n", paint.text(Tone::Bold, "hint:"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_with_hint_prints_both_and_no_escape_without_colour() {
        let error = ControlError::new(ErrorCode::NotFound, "there is no backend \"x\"").with_hint("known: web-01");
        assert_eq!(render_error(&error, Paint(false)), "error: there is no backend \"x\"\nhint: known: web-01\n");
        assert!(render_error(&error, Paint(true)).starts_with("\x1b[31merror:\x1b[0m "));
    }

    #[test]
    fn colour_always_and_never_do_not_ask_the_terminal() {
        assert!(Colour::Always.paint(false).0);
        assert!(!Colour::Never.paint(true).0);
        assert!(!Colour::Auto.paint(false).0);
    }
}
