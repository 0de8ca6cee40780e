//! Where output goes: table or JSON, colour or none, and a reader that may have gone.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;

use super::{Outcome, plain};
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
    fn wanted(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
                terminal && !refused && obeys()
            }
        }
    }
}

/// How text for people looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    /// Whether to colour.
    pub(super) colour: bool,
    /// Characters of a line; `None` if nothing limits it.
    pub(super) width: Option<usize>,
}

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
    /// Without colour and limit.
    pub(super) const PLAIN: Self = Self { colour: false, width: None };

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
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether the terminal is one that takes commands.
fn obeys() -> bool {
    std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Columns of the terminal that standard output is; `None` if it does not say.
fn columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a live `winsize`, which is what this request writes, and nothing else.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then(|| size.ws_col.into())
}

/// Asks on the terminal. Anything but a yes is an error of this class, and nothing was changed.
pub(super) fn confirm(question: &str, refusal: ErrorCode) -> Result<(), ControlError> {
    let refused = || ControlError::new(refusal, "not confirmed; nothing was changed");
    let mut answer = String::new();
    say(&format!("{question} [y/N] "));
    std::io::stdin().read_line(&mut answer).map_err(|_| refused())?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused()) }
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) colour: bool,
    terminal: bool,
}

/// Whether anybody still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Yes, as far as is known.
    There,
    /// The other end of the pipe is closed.
    Gone,
}

impl Output {
    pub(super) fn new(format: Format, colour: Colour) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { format, colour: colour.wanted(terminal), terminal }
    }

    /// How text looks now: a terminal's width may change while a command runs.
    pub(super) fn paint(&self) -> Paint {
        Paint { colour: self.colour, width: if self.terminal { columns() } else { None } }
    }

    /// What clears the screen, where there is one.
    pub(super) fn clear(&self) -> &'static str {
        if self.terminal && obeys() { "\x1b[H\x1b[2J" } else { "" }
    }

    /// Prints a document: as JSON, or as `render` shows it, with all its texts on one plain line.
    pub(super) fn show<T: Document>(&self, document: T, render: impl FnOnce(&T, Paint) -> String) -> Outcome {
        match self.format {
            Format::Table => self.print(&render(&plain::document(&document)?, self.paint()))?,
            Format::Json => self.print(&(json(&Envelope::new(document), self.terminal)? + "\n"))?,
        };
        Ok(ExitCode::SUCCESS)
    }

    /// Prints a document as one line of JSON.
    pub(super) fn show_line<T: Document>(&self, document: T) -> Result<Reader, ControlError> {
        self.print(&(json(&Envelope::new(document), false)? + "\n"))
    }

    /// Prints text. That nobody reads it (`rollcall flows | head`) is no error.
    pub(super) fn print(&self, text: &str) -> Result<Reader, ControlError> {
        write(&mut std::io::stdout().lock(), text)
    }
}

fn write(out: &mut impl Write, text: &str) -> Result<Reader, ControlError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(ControlError::new(ErrorCode::System, format!("cannot write to standard output: {e}"))),
        Ok(()) => Ok(Reader::There),
    }
}

/// Says something on standard error. Where that is closed there is no one left to tell.
pub(super) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// On one line for programs, indented for people.
fn json(value: &impl serde::Serialize, indented: bool) -> Result<String, ControlError> {
    if indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }
        .map_err(|e| ControlError::new(ErrorCode::System, format!("cannot write JSON: {e}")))
}

/// Prints an error: what, where, why, and what to do.
pub(super) fn print_error(error: &ControlError, colour: Colour) {
    let colour = colour.wanted(std::io::stderr().is_terminal());
    say(&render_error(error, Paint { colour, ..Paint::PLAIN }));
}

fn render_error(error: &ControlError, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.text(Tone::Bad, "error:"), plain::lines(&error.message));
    if let Some(hint) = &error.hint {
        text += &format!("{} {}\n", paint.text(Tone::Bold, "hint:"), plain::lines(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_with_hint_prints_both_and_no_escape_without_colour() {
        let error = ControlError::new(ErrorCode::NotFound, "there is no backend \"x\"").with_hint("known: web-01");
        assert_eq!(render_error(&error, Paint::PLAIN), "error: there is no backend \"x\"\nhint: known: web-01\n");
        assert!(render_error(&error, Paint { colour: true, ..Paint::PLAIN }).starts_with("\x1b[31merror:\x1b[0m "));
    }

    #[test]
    fn error_with_escapes_from_elsewhere_shows_them_written_out() {
        let error = ControlError::new(ErrorCode::System, "it said \x1b[2J").with_hint("\x07\n2nd line");
        assert_eq!(render_error(&error, Paint::PLAIN), "error: it said \\u{1b}[2J\nhint: \\u{7}\n2nd line\n");
    }

    #[test]
    fn write_to_a_closed_pipe_is_no_error_and_to_a_full_disk_is_one() {
        let (reader, mut pipe) = std::io::pipe().unwrap();
        assert_eq!(write(&mut pipe, "x").unwrap(), Reader::There);
        drop(reader);
        assert_eq!(write(&mut pipe, "x").unwrap(), Reader::Gone);
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write(&mut full, "x").unwrap_err().code, ErrorCode::System);
    }

    #[test]
    fn colour_always_and_never_do_not_ask_the_terminal() {
        assert!(Colour::Always.wanted(false));
        assert!(!Colour::Never.wanted(true));
        assert!(!Colour::Auto.wanted(false));
    }
}
