//! One named network namespace: made, entered, removed.
//!
//! Threads and children enter by `setns` and keep the mount namespace, because `ip netns exec` would put a fresh /sys in
//! front of the BPF file system.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps its namespaces.
pub const FOLDER: &str = "/run/netns";

/// A namespace that is removed with its guard.
pub struct Namespace {
    name: String,
    handle: File,
    kept: bool,
}

impl Namespace {
    /// Makes the namespace `name` with its loopback up.
    #[track_caller]
    pub fn create(name: &str) -> Self {
        crate::skip::require_root();
        run(Command::new("ip").args(["netns", "add", name]));
        let handle = File::open(Path::new(FOLDER).join(name)).expect("`ip netns add` made it");
        let namespace = Self { name: name.to_owned(), handle, kept: false };
        // No duplicate address detection: an address is usable at once.
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0");
        namespace.ip("link set lo up\n");
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands in it, one a line.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run `ip`: {e}; install iproute2"));
        child.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("`ip` reads its input");
        let output = child.wait_with_output().expect("`ip` was started");
        assert!(
            output.status.success(),
            "`ip` in {} failed: {}\nwith:\n{lines}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Sets a sysctl in it.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.enter(|| std::fs::write(&path, value).unwrap_or_else(|e| panic!("cannot write {path}: {e}")));
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let handle = self.handle.try_clone().expect("a descriptor can be duplicated");
        // SAFETY: `setns` is a plain system call, allowed between fork and exec; it allocates nothing.
        unsafe {
            command.pre_exec(move || setns(&handle, CloneFlags::CLONE_NEWNET).map_err(Into::into));
        }
        command
    }

    /// Runs a command in it to its end; panics with its output if it fails. Returns what it printed.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(self.command(program).args(arguments))
    }

    /// Runs `f` on a thread inside, and waits for it.
    #[track_caller]
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                    f()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread inside.
    pub fn thread<T: Send + 'static>(&self, name: &str, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let handle = self.handle.try_clone().expect("a descriptor can be duplicated");
        let inside = move || {
            setns(&handle, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            f()
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(inside).expect("a thread can be started")
    }

    /// Leaves it when the guard goes.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Its descriptor, for those that enter by other means.
    pub fn descriptor(&self) -> i32 {
        self.handle.as_raw_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.name);
        }
    }
}

/// Kills what runs in the namespace, by process id, and removes it. A namespace that is gone is no error.
pub fn remove(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        let own = std::process::id().cast_signed();
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        for pid in pids.split_whitespace().filter_map(|p| p.parse::<i32>().ok()).filter(|&p| p != own) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Joins two namespaces by a veth pair. Transmit checksum offload is off at both ends: XDP sees what was sent, and a
/// checksum left to the hardware would be no checksum at all. Two queues, so that both CPUs take part.
#[track_caller]
pub fn join(a: (&Namespace, &str), b: (&Namespace, &str)) {
    run(Command::new("ip")
        .args(["link", "add", a.1, "netns", &a.0.name, "numtxqueues", "2", "numrxqueues", "2", "type", "veth"])
        .args(["peer", "name", b.1, "netns", &b.0.name, "numtxqueues", "2", "numrxqueues", "2"]));
    for (namespace, link) in [a, b] {
        namespace.run("ethtool", &["-K", link, "tx", "off"]);
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| {
        panic!("cannot run {:?}: {e}; `cargo xtask setup` installs what the tests need", command.get_program())
    });
    assert!(
        output.status.success(),
        "{:?} {:?} failed with {}: {}{}",
        command.get_program(),
        command.get_args(),
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
