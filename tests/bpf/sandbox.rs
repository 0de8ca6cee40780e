//! A private corner of the machine for one test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rollcall::io::bpf::{DataPlane, OpenOptions};

/// Namespaces and a BPF file system of the calling thread. They go when the thread ends.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// Runs a test in a sandbox, on a thread of its own.
pub fn sandbox(test: impl FnOnce(&Sandbox) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces; these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts made private");
        let dir = tempfile::tempdir().expect("a temporary directory");
        mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), None::<&str>).expect("a BPF file system");
        let sandbox = Sandbox { dir };
        sandbox.ip("link set dev lo up");
        test(&sandbox);
    };
    if let Err(panic) = thread::Builder::new().name("sandbox".to_owned()).spawn(run).expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

impl Sandbox {
    /// The mount point of the BPF file system.
    pub fn bpffs(&self) -> &Path {
        self.dir.path()
    }

    /// Small sizes below the sandbox's BPF file system.
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            pin_dir: self.dir.path().join("rollcall"),
            max_flows: 1024,
            max_half_open: 64,
            arena_slots: 8192,
            seed: None,
        }
    }

    /// Opens with [`Self::options`].
    pub fn open(&self) -> (DataPlane, bool) {
        DataPlane::open(&self.options()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The path of a pin of the set in use.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.options().pin_dir.join("v1").join(name)
    }

    /// Runs `ip` in the sandbox, arguments separated by spaces, and returns what it printed.
    pub fn ip(&self, arguments: &str) -> String {
        let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes a veth pair.
    pub fn veth(&self, a: &str, b: &str) {
        self.ip(&format!("link add {a} type veth peer name {b}"));
        self.ip(&format!("link set dev {a} up"));
        self.ip(&format!("link set dev {b} up"));
    }

    /// Names of what is pinned, sorted.
    pub fn pins(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut todo = vec![self.options().pin_dir];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.expect("a directory entry").path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    names.push(path.strip_prefix(self.bpffs()).unwrap().display().to_string());
                }
            }
        }
        names.sort();
        names
    }
}
