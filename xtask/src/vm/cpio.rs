//! Writes the one archive format that the kernel unpacks at boot: cpio, "new" ASCII. Directories, regular files and
//! links to them; all owned by root, without times, so that equal content gives equal archives.

use std::collections::BTreeSet;
use std::io::{self, Write};

/// An archive being written. Parents of each path are added by themselves.
pub struct Archive<W> {
    out: W,
    offset: u64,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self { out, offset: 0, inode: 0, directories: BTreeSet::new() }
    }

    /// Adds a directory and its parents.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.entry(path, 0o040_755, &[])?;
        }
        Ok(())
    }

    /// Adds an executable file.
    pub fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, 0o100_755, content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, 0o120_777, target.as_bytes())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{path} is too large")))?;
        let name_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        // Magic, inode, mode, uid, gid, links, mtime, size, device and its special twin, name's size, no checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.put(b"070701")?;
        for field in fields {
            self.put(format!("{field:08x}").as_bytes())?;
        }
        self.put(path.as_bytes())?;
        self.put(&[0])?;
        self.align()?;
        self.put(content)?;
        self.align()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        let padding = (self.offset.next_multiple_of(4) - self.offset) as usize;
        self.put(&[0; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_has_parents_once_and_every_part_aligned() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b/one", b"12345").expect("a vector takes all");
        archive.file("a/b/two", b"").expect("a vector takes all");
        let bytes = archive.finish().expect("a vector takes all");
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let header = std::str::from_utf8(&bytes[at..at + 110]).expect("headers are ASCII");
            assert!(header.starts_with("070701"), "no header at {at}");
            let field = |index: usize| {
                usize::from_str_radix(&header[6 + 8 * index..14 + 8 * index], 16).expect("fields are hexadecimal")
            };
            let (size, name_size) = (field(6), field(11));
            names.push(String::from_utf8_lossy(&bytes[at + 110..at + 109 + name_size]).into_owned());
            at = (at + 110 + name_size).next_multiple_of(4) + size.next_multiple_of(4);
        }
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", "TRAILER!!!"]);
    }
}
