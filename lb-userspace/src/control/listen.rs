//! Binding the control socket and the metrics listener, before anything is served: a second daemon, a directory without
//! permission, or a port in use fail the start, not the first request.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::connections::Limits;
use super::daemon::{ControlError, ErrorCode};
use super::peer::Policy;

/// Bound listeners. Dropping them removes the socket's file, if it is still ours.
#[derive(Debug)]
pub struct Listeners {
    pub(super) control: UnixListener,
    pub(super) metrics: Option<TcpListener>,
    pub(super) policy: Policy,
    pub(super) limits: PerListener,
    pub(super) file: SocketFile,
}

/// Each listener's own limits, so that whoever uses up one cannot close the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct PerListener {
    pub(super) control: Limits,
    pub(super) metrics: Limits,
}

/// The socket's file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another daemon may have put its own socket here; leave that alone. Nothing can be done about an error now.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listeners {
    /// Where metrics are served over TCP: the real port, if the configured one was 0.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|l| l.local_addr().ok())
    }
}

/// Binds the control socket at `socket` and, if asked for, the metrics listener. A stale socket is replaced; one that
/// answers is an error.
pub async fn bind(socket: &Path, metrics: Option<SocketAddr>) -> Result<Listeners, ControlError> {
    let policy = Policy::of_host();
    let metrics = match metrics {
        None => None,
        Some(address) => Some(TcpListener::bind(address).await.map_err(|e| {
            system(format!("cannot listen for metrics on {address}: {e}"))
                .with_hint("change control.metrics in the configuration, or stop what uses the address")
        })?),
    };
    make_directory(socket)?;
    refuse_other_files(socket)?;
    refuse_if_answered(socket).await?;
    let (control, file) = bind_atomically(socket, policy.readers).map_err(|e| {
        system(format!("cannot create the control socket {}: {e}", socket.display()))
            .with_hint("run the daemon as root, or change control.socket in the configuration")
    })?;
    let limits = PerListener { control: Limits::CONTROL, metrics: Limits::METRICS };
    Ok(Listeners { control, metrics, policy, limits, file })
}

fn system(message: String) -> ControlError {
    ControlError::new(ErrorCode::System, message)
}

fn make_directory(socket: &Path) -> Result<(), ControlError> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|e| {
        system(format!("cannot create the control socket's directory {}: {e}", directory.display()))
            .with_hint("run the daemon as root, or change control.socket in the configuration")
    })
}

/// A stale socket may be replaced; a file that a typing error names must not be.
fn refuse_other_files(socket: &Path) -> Result<(), ControlError> {
    match std::fs::symlink_metadata(socket) {
        Ok(meta) if !meta.file_type().is_socket() => {
            Err(system(format!("{} exists and is no socket", socket.display()))
                .with_hint("change control.socket in the configuration, or move that file away"))
        }
        _ => Ok(()),
    }
}

async fn refuse_if_answered(socket: &Path) -> Result<(), ControlError> {
    match UnixStream::connect(socket).await {
        Ok(_) => Err(ControlError::new(
            ErrorCode::Conflict,
            format!("another daemon answers on {}; two would overwrite each other's tables", socket.display()),
        )
        .with_hint("stop that one first, or give this one its own control.socket, state_dir and pin_dir")),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(()),
        Err(e) => Err(system(format!("cannot tell whether a daemon uses {}: {e}", socket.display()))
            .with_hint("run the daemon as root, or remove what is at that path")),
    }
}

/// Binds beside the path, sets mode and group, then renames: nobody ever sees a socket that is missing or too open.
fn bind_atomically(socket: &Path, group: Option<u32>) -> std::io::Result<(UnixListener, SocketFile)> {
    let mut name = socket.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = socket.with_file_name(name);
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    let finish = || {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660))?;
        if group.is_some() {
            chown(&temporary, None, group)?;
        }
        let file = SocketFile { path: socket.to_owned(), identity: identity(&temporary)? };
        std::fs::rename(&temporary, socket)?;
        Ok(file)
    };
    match finish() {
        Ok(file) => Ok((listener, file)),
        Err(e) => {
            let _ = std::fs::remove_file(&temporary);
            Err(e)
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bind_in_missing_directory_creates_it_and_a_socket_for_owner_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/control.sock");
        let bound = bind(&socket, None).await.unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(std::fs::metadata(dir.path().join("run")).unwrap().permissions().mode() & 0o777, 0o755);
        drop(bound);
        assert!(!socket.exists(), "the socket's file outlived its listener");
    }

    #[tokio::test]
    async fn bind_over_stale_socket_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(socket.exists());
        let _bound = bind(&socket, None).await.unwrap();
        UnixStream::connect(&socket).await.unwrap();
    }

    #[tokio::test]
    async fn bind_over_a_file_or_a_link_is_refused_and_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("notes.txt"), dir.path().join("link"));
        std::fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let error = bind(path, None).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::System);
            assert!(error.message.contains("is no socket"), "{}", error.message);
            assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn bind_where_a_daemon_answers_is_refused_and_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let _first = bind(&socket, None).await.unwrap();
        let error = bind(&socket, None).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        UnixStream::connect(&socket).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary socket was left behind");
    }

    #[tokio::test]
    async fn dropping_listeners_leaves_a_successors_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let first = bind(&socket, None).await.unwrap();
        std::fs::remove_file(&socket).unwrap();
        let _second = bind(&socket, None).await.unwrap();
        drop(first);
        UnixStream::connect(&socket).await.unwrap();
    }
}
