//! systemd's readiness and watchdog messages: datagrams to the socket that `NOTIFY_SOCKET` names. Silent without it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service is up.
pub const READY: &str = "READY=1";
/// The service is about to stop.
pub const STOPPING: &str = "STOPPING=1";
/// The actor is alive; `WatchdogSec` in the unit makes systemd restart a daemon that stops saying so.
pub const WATCHDOG: &str = "WATCHDOG=1";

/// Tells systemd `what`, if it asked to be told. A failure is no reason to stop balancing.
pub fn send(what: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = name.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|a| {
        let socket = UnixDatagram::unbound()?;
        // A reader that does not read must not hold up the daemon.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(what.as_bytes(), &a)
    });
    if let Err(e) = sent {
        tracing::debug!("cannot tell systemd {what}: {e}");
    }
}
