//! Who is at the other end of the socket, and what they may do.
//!
//! The kernel's word only: credentials and groups as they were when the peer connected. Nothing the peer says counts.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Group, geteuid};

use super::daemon::{Actor, ControlError, ErrorCode};

/// Members may read.
pub const READERS: &str = "rollcall";
/// Members may read and change.
pub const ADMINS: &str = "rollcall-admin";

/// A peer, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process.
    pub pid: i32,
    /// Its effective uid.
    pub uid: u32,
    /// Its effective and supplementary groups.
    pub groups: Vec<u32>,
}

/// Whom to let in: ids, resolved once when the socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The daemon's own uid. That user could trace the daemon anyway.
    pub own_uid: u32,
    /// Gid of [`READERS`], if the group exists.
    pub readers: Option<u32>,
    /// Gid of [`ADMINS`], if the group exists.
    pub admins: Option<u32>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only looks.
    Read,
    /// It changes something.
    Write,
}

impl Policy {
    /// The policy of this process on this host.
    pub fn of_host() -> Self {
        let gid = |name| Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw());
        Self { own_uid: geteuid().as_raw(), readers: gid(READERS), admins: gid(ADMINS) }
    }

    /// Whether `peer` may.
    pub fn check(&self, peer: &Peer, access: Access) -> Result<(), ControlError> {
        let is_in = |group: Option<u32>| group.is_some_and(|g| peer.groups.contains(&g));
        let super_user = peer.uid == 0 || peer.uid == self.own_uid;
        let (allowed, verb, who) = match access {
            Access::Read => (
                super_user || is_in(self.admins) || is_in(self.readers),
                "read from",
                format!("root and the groups {READERS} and {ADMINS} may"),
            ),
            Access::Write => {
                (super_user || is_in(self.admins), "change", format!("only root and the group {ADMINS} may"))
            }
        };
        if allowed {
            return Ok(());
        }
        Err(ControlError::new(ErrorCode::Permission, format!("uid {} may not {verb} the daemon: {who}", peer.uid))
            .with_hint(format!(
                "run it as root, or add the user to the group and log in again: usermod -aG {READERS},{ADMINS} USER"
            )))
    }
}

impl Peer {
    /// Asks the kernel about the other end of a connected unix socket.
    pub fn of(socket: BorrowedFd<'_>) -> std::io::Result<Self> {
        let credentials = getsockopt(&socket, PeerCredentials)?;
        let mut groups = peer_groups(socket)?;
        if !groups.contains(&credentials.gid()) {
            groups.push(credentials.gid());
        }
        Ok(Self { pid: credentials.pid(), uid: credentials.uid(), groups })
    }

    /// Whom to record. The login uid survives `sudo`; it is read by process number, so it is a hint, not proof.
    pub fn actor(&self) -> Actor {
        let text = std::fs::read_to_string(format!("/proc/{}/loginuid", self.pid)).unwrap_or_default();
        Actor { uid: self.uid, loginuid: parse_loginuid(&text) }
    }
}

/// The kernel writes `(uid_t)-1` where no one logged in.
fn parse_loginuid(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// Supplementary groups of the peer (`SO_PEERGROUPS`, which nix does not wrap).
fn peer_groups(socket: BorrowedFd<'_>) -> std::io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).map_err(std::io::Error::other)?;
        // SAFETY: the pointer and the length describe `groups`, which lives across the call; the kernel writes at most
        // `bytes` bytes of plain integers, and sets `bytes` to what it wrote or would need.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = bytes as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rstest::rstest;

    use super::*;

    const POLICY: Policy = Policy { own_uid: 500, readers: Some(70), admins: Some(71) };

    #[rstest]
    #[case::root(0, &[0], true, true)]
    #[case::own_user(500, &[500], true, true)]
    #[case::reader(1000, &[1000, 70], true, false)]
    #[case::admin(1000, &[1000, 71], true, true)]
    #[case::stranger(1000, &[1000, 27], false, false)]
    #[case::uid_equal_to_a_gid(71, &[1000], false, false)]
    fn check_by_uid_and_groups_allows_as_documented(
        #[case] uid: u32,
        #[case] groups: &[u32],
        #[case] read: bool,
        #[case] write: bool,
    ) {
        let peer = Peer { pid: 1, uid, groups: groups.to_vec() };
        assert_eq!(POLICY.check(&peer, Access::Read).is_ok(), read);
        assert_eq!(POLICY.check(&peer, Access::Write).is_ok(), write);
    }

    #[test]
    fn check_without_groups_on_the_host_allows_root_only() {
        let policy = Policy { own_uid: 0, readers: None, admins: None };
        let stranger = Peer { pid: 1, uid: 1000, groups: vec![0] };
        let error = policy.check(&stranger, Access::Read).unwrap_err();
        assert_eq!(error.code, ErrorCode::Permission);
        assert!(error.message.contains(READERS) && error.message.contains(ADMINS), "{}", error.message);
        assert!(policy.check(&Peer { uid: 0, ..stranger }, Access::Write).is_ok());
    }

    #[test]
    fn peer_of_own_socket_is_this_process() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = Peer::of(a.as_fd()).unwrap();
        assert_eq!(peer.uid, geteuid().as_raw());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert!(peer.groups.contains(&nix::unistd::getegid().as_raw()));
    }

    #[rstest]
    #[case("1000\n", Some(1000))]
    #[case("4294967295", None)]
    #[case("", None)]
    fn loginuid_text_is_none_where_nobody_logged_in(#[case] text: &str, #[case] uid: Option<u32>) {
        assert_eq!(parse_loginuid(text), uid);
    }
}
