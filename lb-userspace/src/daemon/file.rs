//! The configuration file as bytes: its digest, and replacing it atomically. What the bytes mean is `config`'s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::crash;
use crate::config;

/// Digest of the file as it is now; `None` if it cannot be read.
pub fn digest(path: &Path) -> Option<String> {
    config::text_of(path).map(|text| config::sha256(&text))
}

/// How surely a file that was replaced stays so.
#[derive(Debug)]
pub enum Replaced {
    /// Whatever happens.
    Durably,
    /// Unless the power fails soon: its directory could not be written to the disk, for this reason.
    UntilPowerFails(io::Error),
}

/// Replaces the file's content: readers, and a crash at any point, see the old text or the new one. Mode and owner stay;
/// a symbolic link stays a link, its target is replaced. An error means that the file is the old one.
pub fn replace(path: &Path, text: &str) -> io::Result<Replaced> {
    let path = fs::canonicalize(path)?;
    let old = fs::metadata(&path)?;
    let temp = temp_path(&path);
    discard_temp(&path)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).mode(0o600).open(&temp)?;
    let written = write(&mut file, text, &old).and_then(|()| {
        crash::point("after_temp");
        fs::rename(&temp, &path)
    });
    if let Err(e) = written {
        let _ = fs::remove_file(&temp);
        return Err(e);
    }
    // The rename is durable only once the directory is; but it has happened, whatever comes of this.
    Ok(sync_dir(&path).map_or_else(Replaced::UntilPowerFails, |()| Replaced::Durably))
}

/// Removes what an interrupted [`replace`] left beside the file.
pub fn discard_temp(path: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::remove_file(temp_path(&path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn write(file: &mut File, text: &str, old: &fs::Metadata) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    std::os::unix::fs::fchown(&*file, Some(old.uid()), Some(old.gid()))?;
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    if crash::fails("sync_dir") {
        return Err(io::Error::other("told to fail"));
    }
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// In the same directory, so that the rename stays within one file system; a fixed name, so that leftovers are found.
fn temp_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.rollcall-new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_keeps_mode_and_link_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        fs::write(dir.path().join(".real.toml.rollcall-new"), "left by a crash").unwrap();

        assert!(matches!(replace(&link, "new").unwrap(), Replaced::Durably));

        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o604);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn digest_of_a_missing_file_is_none() {
        assert_eq!(digest(Path::new("/nonexistent/rollcall.toml")), None);
    }
}
