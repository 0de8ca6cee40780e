//! Cgroups that limit memory, of whichever version this kernel gives the memory controller to; removed with their guard.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How the kernel names the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

/// The hierarchy that limits memory on this host, and where it is mounted; `None` if none does.
pub fn hierarchy() -> Option<(Version, PathBuf)> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, path, kind, options, ..] = words[..] else { return None };
        let has = |list: &str, by: fn(char) -> bool| list.split(by).any(|word| word == "memory");
        let v2 = || {
            let controllers = std::fs::read_to_string(Path::new(path).join("cgroup.controllers"));
            controllers.is_ok_and(|list| has(&list, char::is_whitespace))
        };
        match kind {
            "cgroup" if has(options, |c| c == ',') => Some((Version::V1, path.into())),
            "cgroup2" if v2() => Some((Version::V2, path.into())),
            _ => None,
        }
    })
}

/// A cgroup. Make those below it later than it, and drop them earlier.
pub struct Cgroup {
    version: Version,
    path: PathBuf,
}

impl Cgroup {
    /// A new one at the top of the host's hierarchy; `None` where no cgroups limit memory.
    #[track_caller]
    pub fn create(name: &str) -> Option<Self> {
        let (version, mount) = hierarchy()?;
        Some(Self::make(version, &mount, name))
    }

    /// A new one below this.
    #[track_caller]
    pub fn below(&self, name: &str) -> Self {
        Self::make(self.version, &self.path, name)
    }

    #[track_caller]
    fn make(version: Version, parent: &Path, name: &str) -> Self {
        if version == Version::V2 {
            write(&parent.join("cgroup.subtree_control"), "+memory");
        }
        let path = parent.join(name);
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot make the cgroup {}: {e}", path.display()));
        Self { version, path }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Limits its memory to so many bytes, or not.
    #[track_caller]
    pub fn limit(&self, bytes: Option<u64>) {
        let (file, unlimited) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "-1"),
            Version::V2 => ("memory.max", "max"),
        };
        write(&self.path.join(file), &bytes.map_or_else(|| unlimited.to_owned(), |bytes| bytes.to_string()));
        // What cannot be had in memory is not to be had from a disk either.
        if self.version == Version::V2 && self.path.join("memory.swap.max").exists() {
            write(&self.path.join("memory.swap.max"), "0");
        }
    }

    /// Memory that it uses, caches included, bytes.
    #[track_caller]
    pub fn usage(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        self.read(file).trim().parse().expect("the kernel writes a number")
    }

    /// How often the kernel ended a process of it because its memory ran out.
    #[track_caller]
    pub fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = self.read(file);
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or_else(|| panic!("{file} has no oom_kill, which Linux 4.13 has: {text}"))
    }

    /// Has `command` run in it.
    #[track_caller]
    pub fn enter(&self, command: &mut Command) {
        let path = self.path.join("cgroup.procs");
        let open = File::options().write(true).open(&path);
        let mut file = open.unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
        // SAFETY: a write to an open descriptor is allowed between fork and exec; it allocates nothing.
        unsafe {
            command.pre_exec(move || file.write_all(b"0"));
        }
    }

    #[track_caller]
    fn read(&self, file: &str) -> String {
        let path = self.path.join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Time that the processes of a cgroup may take to be gone after they were killed.
const GONE: Duration = Duration::from_secs(5);

/// Removes a cgroup and those below it, once their processes are gone. One that is not there is no error.
pub fn remove(path: &Path) {
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).for_each(|entry| remove(&entry.path()));
    let end = Instant::now() + GONE;
    while let Err(e) = std::fs::remove_dir(path) {
        if e.kind() == std::io::ErrorKind::NotFound {
            return;
        }
        if Instant::now() >= end {
            eprintln!("cannot remove the cgroup {}: {e}", path.display());
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("cannot write {text:?} to {}: {e}", path.display()));
}
