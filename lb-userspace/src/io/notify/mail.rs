//! Mail, by a program that speaks as sendmail does. Nothing from an alert can become a header or an argument: headers hold
//! one line of printable ASCII, other words are encoded (RFC 2047), recipients stand behind `--`.

use jiff::tz::TimeZone;

use super::command;
use crate::alert::{Message, Status};

/// Bytes of a header's text that are kept.
const SUBJECT_BYTES: usize = 160;

/// Hands it to the program.
pub(super) async fn send(to: &[String], program: &[String], message: &Message) -> Result<(), String> {
    let more: Vec<String> = ["-i", "--"].into_iter().map(str::to_owned).chain(to.iter().cloned()).collect();
    command::run(program, &more, None, text(to, message, jiff::Timestamp::now()).as_bytes()).await
}

/// The mail, RFC 5322.
fn text(to: &[String], message: &Message, now: jiff::Timestamp) -> String {
    let date = now.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    let host: String = message.instance.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    // One thread for each time that it fires.
    let fired = message.fired.as_millisecond();
    let name: String = message.key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '.' }).collect();
    let thread = format!("<{name}.{fired}@{host}>");
    let first = message.status == Status::Firing && !message.repeated;
    let id = match first {
        true => format!("Message-ID: {thread}\n"),
        false => format!("Message-ID: <{name}.{fired}.{}@{host}>\nReferences: {thread}\n", now.as_millisecond()),
    };
    let mut out = format!(
        "Date: {date}\nFrom: rollcall@{host}\nTo: {}\nSubject: {}\n{id}Auto-Submitted: auto-generated\nMIME-Version: \
         1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n",
        to.join(", "),
        header(&message.title()),
    );
    let mut line = |name: &str, value: &str| {
        // One line each, so that a value cannot pass for another line.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out += &format!("{name}: {value}\n");
    };
    line("status", message.status.name());
    line("severity", message.severity.name());
    line("what", &message.summary);
    line("edge", &message.instance);
    line("since", &message.since.to_string());
    if let Some(ended) = message.ended {
        line("ended", &ended.to_string());
    }
    line("owner", message.owner.as_deref().unwrap_or("nobody is named"));
    for (name, value) in &message.labels {
        line(name, value);
    }
    line("key", &message.key);
    line("what to do", &message.playbook);
    out
}

/// A header's text: as it is if it is printable ASCII, else in encoded words.
fn header(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = text.len().min(SUBJECT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    if text.is_ascii() && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut bytes = [0; 4];
        let encoded: String = match c {
            ' ' => "_".to_owned(),
            c if c.is_ascii_alphanumeric() => c.to_string(),
            c => c.encode_utf8(&mut bytes).bytes().map(|b| format!("={b:02X}")).collect(),
        };
        // An encoded word has at most 75 characters.
        if words.last().is_some_and(|word| word.len() + encoded.len() > 60) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            *word += &encoded;
        }
    }
    words.iter().map(|word| format!("=?utf-8?Q?{word}?=")).collect::<Vec<_>>().join("\n ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn mail_has_its_headers_and_one_line_for_each_part() {
        let now: jiff::Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let mail = text(&["ops@example.org".into(), "root".into()], &message(), now);
        let (head, body) = mail.split_once("\n\n").unwrap();
        for line in [
            "Date: Sun, 01 Mar 2026 12:00:00 +0000",
            "From: rollcall@edge-1",
            "To: ops@example.org, root",
            "Subject: [warning] edge-1: b1 in web is down: refused",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.lines().any(|l| l == line), "{line}: {head}");
        }
        assert!(body.contains("what: b1 in web is down: refused\n") && body.contains("site: fra1\n"), "{body}");
    }

    #[test]
    fn text_from_elsewhere_becomes_no_header_and_no_second_line() {
        let summary = "x\r\nBcc: all@example.org\r\n\r\nbody: ü".to_owned();
        let mail = text(&["root".into()], &Message { summary, ..message() }, jiff::Timestamp::UNIX_EPOCH);
        let (head, body) = mail.split_once("\n\n").unwrap();
        assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{head}");
        assert!(!mail.contains('\r') && head.is_ascii(), "{mail}");
        assert_eq!(body.lines().count(), 9, "{body}");
        assert!(head.contains("Subject: =?utf-8?Q?=5Bwarning=5D_edge=2D1=3A_x__Bcc"), "{head}");
    }
}
