//! The connection that every check begins with.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

use super::{Deadline, LOCAL};

/// Connects. The stream is closed by a reset when it is dropped: checks run for ever, and each orderly close from our
/// side would leave a port in TIME_WAIT for a minute.
pub(in crate::io) async fn connect(to: SocketAddr, deadline: Deadline) -> Result<TcpStream, String> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|e| format!("{LOCAL}no socket: {}", words(&e)))?;
    socket.set_zero_linger().map_err(|e| format!("{LOCAL}no socket: {}", words(&e)))?;
    deadline.within("connecting", socket.connect(to)).await?.map_err(|e| describe(&e, to))
}

fn describe(error: &io::Error, to: SocketAddr) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => format!("{LOCAL}no source port left towards {to}"),
        Some(libc::ENETUNREACH) => format!("{LOCAL}no route to {}", to.ip()),
        Some(libc::EACCES | libc::EPERM) => format!("{LOCAL}this host's firewall or routes forbid {to}"),
        Some(libc::EINVAL | libc::ENOBUFS | libc::ENOMEM | libc::ENETDOWN) => format!("{LOCAL}{}", words(error)),
        _ => words(error),
    }
}

/// An error in the kernel's words, without the number, in small letters.
pub(in crate::io) fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}
