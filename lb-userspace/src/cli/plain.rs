//! Text from elsewhere, such as a server's answer in a probe's error, may hold what a terminal takes for a command. Before
//! it is shown to people it is made plain: programs get it as it is, since JSON has its own escapes.

use std::borrow::Cow;

use serde_json::Value;

use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::Document;

/// Whether a terminal may do something else than show it: control characters, and those that turn the direction of
/// writing, so that a line reads as another.
fn is_active(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() && !matches!(c, '\n' | '\t') || turns
}

/// The text with all such characters written out, as in `\u{1b}`. Lines stay lines.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return text.into();
    }
    let shown = text.chars().flat_map(|c| {
        let (plain, written) = if is_active(c) { (None, Some(c.escape_unicode())) } else { (Some(c), None) };
        plain.into_iter().chain(written.into_iter().flatten())
    });
    shown.collect::<String>().into()
}

/// The same on one line, for a place in a sentence or a table.
pub(super) fn line(text: &str) -> String {
    lines(text.trim_end()).split(['\n', '\t']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A document with every text in it on one plain line.
pub(super) fn document<T: Document>(document: &T) -> Result<T, ControlError> {
    let strange = |e| ControlError::new(ErrorCode::System, format!("cannot show the answer: {e}"));
    let mut value = serde_json::to_value(document).map_err(strange)?;
    each_text(&mut value);
    serde_json::from_value(value).map_err(strange)
}

fn each_text(value: &mut Value) {
    match value {
        Value::String(text) => *text = line(text),
        Value::Array(all) => all.iter_mut().for_each(each_text),
        Value::Object(fields) => fields.values_mut().for_each(each_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::control::schema::Status;
    use crate::control::testing;

    #[rstest]
    #[case("as it was: → ü", "as it was: → ü")]
    #[case("\x1b[2Jgone", "\\u{1b}[2Jgone")]
    #[case("\u{9b}31m", "\\u{9b}31m")]
    #[case("a\rb\x07", "a\\u{d}b\\u{7}")]
    #[case("web\u{202e}10", "web\\u{202e}10")]
    #[case("two\nlines", "two\nlines")]
    fn text_that_a_terminal_obeys_is_written_out(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(lines(text), shown);
    }

    #[test]
    fn document_with_escapes_in_a_cause_is_shown_without_them_and_on_one_line() {
        let mut status = Status::new(&testing::view(), &testing::counters());
        status.services[0].backends[1].reasons[0].cause = "HTTP 500 \x1b]0;x\x07\nwarning: all is well\n".into();
        let shown = document(&status).unwrap();
        let cause = &shown.services[0].backends[1].reasons[0].cause;
        assert_eq!(cause, "HTTP 500 \\u{1b}]0;x\\u{7}; warning: all is well");
        assert_eq!(shown.services[1], status.services[1]);
    }
}
