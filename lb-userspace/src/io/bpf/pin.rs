//! Where things are pinned, and in which order they come and go.
//!
//! A set of pins is a directory `v<ABI>` below the pin directory. It is built under another name and renamed when it is
//! complete, and renamed before it is emptied; so a crash leaves either a whole set or leftovers that nobody adopts.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lb_common::abi::ABI_VERSION;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::BpfError;
use super::link::Link;

/// Where a bpffs is mounted by custom.
const BPFFS: &str = "/sys/fs/bpf";
/// Begins the name of a pinned link.
const LINK: &str = "link-";
/// Begins the name of a directory that holds a copy for a trace.
pub(super) const TRACE: &str = "trace-";

/// Paths of one set of pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pins {
    root: PathBuf,
    dir: PathBuf,
}

impl Pins {
    /// The set in use.
    pub(super) fn current(root: &Path) -> Self {
        Self::named(root, "")
    }

    /// The set that is being built.
    pub(super) fn building(root: &Path) -> Self {
        Self::named(root, "-new")
    }

    /// The set that is being removed.
    fn leaving(root: &Path) -> Self {
        Self::named(root, "-old")
    }

    fn named(root: &Path, suffix: &str) -> Self {
        Self { root: root.to_owned(), dir: root.join(format!("v{ABI_VERSION}{suffix}")) }
    }

    /// The directory that the set is in.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A map or a program by its name.
    pub(super) fn object(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The link of an interface.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.dir.join(format!("{LINK}{}", escape(interface)))
    }

    /// Interfaces with a pinned link, sorted.
    pub(super) fn links(&self) -> Result<Vec<String>, BpfError> {
        let mut names: Vec<String> =
            entries(&self.dir)?.iter().filter_map(|p| unescape(p.file_name()?.to_str()?.strip_prefix(LINK)?)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether the set is there.
    pub(super) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Makes the directory, for root alone.
    pub(super) fn create(&self) -> Result<(), BpfError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|e| BpfError::at("create", &self.dir, &e))
    }

    /// Puts a complete set into use.
    pub(super) fn publish(&self) -> Result<(), BpfError> {
        self.rename(&Self::current(&self.root))
    }

    fn rename(&self, to: &Self) -> Result<(), BpfError> {
        fs::rename(&self.dir, &to.dir).map_err(|e| BpfError::at("rename", &self.dir, &e))
    }

    /// Detaches the links, at once and whoever else holds them.
    fn detach(&self) -> Result<(), BpfError> {
        for interface in self.links()? {
            let path = self.link(&interface);
            Link::open(&path)?.detach()?;
            unpin(&path)?;
        }
        Ok(())
    }

    /// Empties and removes the directory.
    fn clear(&self) -> Result<(), BpfError> {
        self.detach()?;
        for path in entries(&self.dir)? {
            unpin(&path)?;
        }
        match fs::remove_dir(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(BpfError::at("remove", &self.dir, &e)),
            _ => Ok(()),
        }
    }
}

/// Removes what a crash left of a set that was being built or removed, and of traces.
pub(super) fn clear_leftovers(root: &Path) -> Result<(), BpfError> {
    Pins::building(root).clear()?;
    Pins::leaving(root).clear()?;
    let is_trace =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TRACE.as_bytes()));
    entries(root)?.iter().filter(|path| is_trace(path)).try_for_each(|path| remove(path))
}

/// Takes the data plane down: detaches, then unpins all. Whatever point an earlier call reached, this one finishes it;
/// where there is nothing, it does nothing.
pub(super) fn remove(root: &Path) -> Result<(), BpfError> {
    clear_leftovers(root)?;
    let current = Pins::current(root);
    if current.exists() {
        current.detach()?;
        let leaving = Pins::leaving(root);
        current.rename(&leaving)?;
        leaving.clear()?;
    }
    // The pin directory itself goes too, unless it holds something else or is the mount point.
    if let Err(e) = fs::remove_dir(root) {
        match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTEMPTY | libc::EBUSY) => {}
            _ => return Err(BpfError::at("remove", root, &e)),
        }
    }
    Ok(())
}

/// Sees to it that `path` will be on a bpffs. Mounts one only at `/sys/fs/bpf`, if that is where `path` leads and nothing
/// is mounted there; anywhere else it is the operator's to choose.
pub fn ensure_bpffs(path: &Path) -> Result<(), BpfError> {
    if path.components().any(|c| {
        let name = c.as_os_str().as_encoded_bytes();
        name == b".." || name == b"."
    }) || !path.is_absolute()
    {
        return Err(BpfError::NotBpffs { path: path.to_owned(), mount_point: BPFFS.into() });
    }
    let ancestor = path.ancestors().find(|a| a.exists()).expect("the root directory exists");
    if is_bpffs(ancestor)? {
        let dotted = |p: &Path| p.as_os_str().as_encoded_bytes().contains(&b'.');
        let below = path.strip_prefix(ancestor).expect("an ancestor is a prefix");
        return if dotted(below) { Err(BpfError::DottedPath { path: path.to_owned() }) } else { Ok(()) };
    }
    let mount_point = if path.starts_with(BPFFS) { Path::new(BPFFS) } else { path.parent().unwrap_or(path) };
    if ancestor != Path::new(BPFFS) {
        return Err(BpfError::NotBpffs { path: path.to_owned(), mount_point: mount_point.to_owned() });
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), ancestor, Some("bpf"), flags, Some("mode=700"))
        .map_err(|e| BpfError::at("mount a BPF file system at", ancestor, &io::Error::from(e)))
}

/// Whether an existing path is on a bpffs.
fn is_bpffs(path: &Path) -> Result<bool, BpfError> {
    let fs = statfs(path).map_err(|e| BpfError::at("examine", path, &io::Error::from(e)))?;
    Ok(fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Removes a pin, if it is there.
pub(super) fn unpin(path: &Path) -> Result<(), BpfError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(BpfError::at("unpin", path, &e)),
        _ => Ok(()),
    }
}

/// What a directory holds; nothing if it does not exist.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, BpfError> {
    match fs::read_dir(dir) {
        Ok(found) => {
            found.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>().map_err(|e| BpfError::at("list", dir, &e))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(BpfError::at("list", dir, &e)),
    }
}

/// A bpffs reserves names with a dot, and VLAN interfaces have one.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> Option<String> {
    let plain = name.replace("%2e", ".").replace("%25", "%");
    (escape(&plain) == name && !plain.is_empty() && OsStr::new(&plain) != "..").then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_survive_the_round_trip_without_dots() {
        for name in ["eth0", "bond0.100", "a%2eb", "%", "..."] {
            let escaped = escape(name);
            assert!(!escaped.contains('.'), "{escaped}");
            assert_eq!(unescape(&escaped).as_deref(), Some(name));
        }
        assert_eq!(unescape("eth0.5"), None);
    }

    #[test]
    fn ensure_bpffs_elsewhere_names_the_mount_command() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollcall");
        let error = ensure_bpffs(&path).unwrap_err();
        assert!(matches!(error, BpfError::NotBpffs { .. }));
        assert!(error.to_string().contains(&format!("mount -t bpf bpf {}", dir.path().display())), "{error}");
        assert!(ensure_bpffs(Path::new("relative")).is_err());
    }
}
