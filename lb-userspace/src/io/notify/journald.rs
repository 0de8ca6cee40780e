//! The journal, by its native protocol: one datagram, each part of the alert in a field of its own. Where there is no
//! journal, the daemon's log takes it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::alert::{Message, Status};
use crate::config::model::Severity;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Writes it.
pub(super) fn send(message: &Message) -> Result<(), String> {
    if !Path::new(SOCKET).exists() {
        log(message);
        return Ok(());
    }
    write(message, Path::new(SOCKET))
}

fn log(message: &Message) {
    let (key, condition, owner) = (&message.key, &message.condition, message.owner.as_deref());
    match (message.status, message.severity) {
        (Status::Firing, Severity::Critical) => tracing::error!(key, condition, owner, "{}", message.title()),
        (Status::Firing, Severity::Warning) => tracing::warn!(key, condition, owner, "{}", message.title()),
        _ => tracing::info!(key, condition, owner, "{}", message.title()),
    }
}

fn write(message: &Message, socket: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", socket.display());
    let journal = UnixDatagram::unbound().map_err(failed)?;
    // A journal that does not read must not hold up the daemon.
    journal.set_nonblocking(true).map_err(failed)?;
    journal.send_to(&datagram(message), socket).map_err(failed)?;
    Ok(())
}

fn datagram(message: &Message) -> Vec<u8> {
    let priority = match (message.status, message.severity) {
        (Status::Firing, Severity::Critical) => "2",
        (Status::Firing, Severity::Warning) => "4",
        _ => "5",
    };
    let mut out = Vec::new();
    field(&mut out, "MESSAGE", &message.title());
    field(&mut out, "PRIORITY", priority);
    field(&mut out, "SYSLOG_IDENTIFIER", "rollcall");
    field(&mut out, "ROLLCALL_STATUS", message.status.name());
    field(&mut out, "ROLLCALL_KEY", &message.key);
    field(&mut out, "ROLLCALL_CONDITION", &message.condition);
    field(&mut out, "ROLLCALL_SEVERITY", message.severity.name());
    field(&mut out, "ROLLCALL_SINCE", &message.since.to_string());
    field(&mut out, "ROLLCALL_PLAYBOOK", &message.playbook);
    for (name, value) in [
        ("ROLLCALL_OWNER", message.owner.as_deref()),
        ("ROLLCALL_SERVICE", message.service.as_ref().map(|s| s.as_str())),
        ("ROLLCALL_BACKEND", message.backend.as_ref().map(|b| b.as_str())),
    ] {
        if let Some(value) = value {
            field(&mut out, name, value);
        }
    }
    for (name, value) in &message.labels {
        field(&mut out, &format!("ROLLCALL_LABEL_{}", name.to_ascii_uppercase()), value);
    }
    out
}

/// Always with its length, so that nothing in a value can begin a field.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn datagram_has_each_part_in_a_field_and_no_value_can_begin_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let sent = Message { summary: "b1 said\nPRIORITY=0".into(), ..message() };
        write(&sent, &path).unwrap();
        let mut bytes = vec![0; 8192];
        let length = journal.recv(&mut bytes).unwrap();
        let mut rest = &bytes[..length];
        let mut fields = std::collections::BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'\n').unwrap();
            let (name, tail) = (std::str::from_utf8(&rest[..end]).unwrap(), &rest[end + 1..]);
            let length = usize::try_from(u64::from_le_bytes(tail[..8].try_into().unwrap())).unwrap();
            fields.insert(name, std::str::from_utf8(&tail[8..8 + length]).unwrap());
            assert_eq!(tail[8 + length], b'\n');
            rest = &tail[9 + length..];
        }
        assert_eq!(fields["MESSAGE"], "[warning] edge-1: b1 said\nPRIORITY=0");
        assert_eq!((fields["PRIORITY"], fields["ROLLCALL_BACKEND"]), ("4", "b1"));
        assert_eq!((fields["ROLLCALL_KEY"], fields["ROLLCALL_LABEL_SITE"]), ("backend_down/web/b1", "fra1"));
    }
}
