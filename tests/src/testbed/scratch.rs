//! What a testbed leaves outside its namespaces: one folder with logs, files and a private BPF file system; and the
//! sweep that removes what a crashed run left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::testbed::{cgroup, netns};

/// The folder of one testbed, removed with its guard.
pub struct Scratch {
    name: String,
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes `<prefix>-<pid>-<n>` in the temporary folder, with a BPF file system in it. First sweeps what dead processes
    /// of the same prefix left.
    #[track_caller]
    pub fn create(prefix: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep(prefix, Sweep::Dead);
        let name = format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        let bpf = path.join("bpf");
        std::fs::create_dir_all(&bpf).unwrap_or_else(|e| panic!("cannot make {}: {e}", bpf.display()));
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|e| panic!("cannot mount a BPF file system at {}: {e}; this needs root", bpf.display()));
        Self { name, path, kept: false }
    }

    /// Its name, which its namespaces' names begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// The BPF file system.
    pub fn bpf(&self) -> PathBuf {
        self.path("bpf")
    }

    /// Leaves it when the guard goes.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.path);
        }
    }
}

/// Which testbeds a sweep removes. Never those whose process still runs: they are in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Those whose process is gone and that were not kept on purpose.
    Dead,
    /// Those that were kept on purpose, too.
    DeadAndKept,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// What was removed, in words.
    pub removed: Vec<String>,
    /// Processes whose testbeds were left alone because they still run.
    pub running: BTreeSet<u32>,
}

/// File in a testbed's folder that says it was kept on purpose.
pub const KEPT: &str = "kept";

/// Removes testbeds of `prefix`: namespaces with all that runs in them, cgroups, pins, folders.
pub fn sweep(prefix: &str, which: Sweep) -> Swept {
    let ours = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let pid = name.strip_prefix(prefix)?.strip_prefix('-')?.split('-').next()?.parse::<u32>().ok()?;
        Some((name, pid))
    };
    let list = |folder: &Path| -> Vec<(String, u32)> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|e| ours(&e)).collect()
    };
    let temporary = std::env::temp_dir();
    let hierarchy = cgroup::hierarchy().map(|(_, mount)| mount);
    let kept = |name: &str| {
        let of = |bed: &str| name.strip_prefix(bed).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        list(&temporary).iter().any(|(bed, _)| of(bed) && temporary.join(bed).join(KEPT).exists())
    };
    let mut swept = Swept::default();
    // One that was kept has nobody: its process left it behind, whoever has that process's number now.
    let mut doomed = |found: Vec<(String, u32)>| -> Vec<String> {
        let mut names = Vec::new();
        for (name, pid) in found {
            if kept(&name) {
                names.extend((which == Sweep::DeadAndKept).then_some(name));
            } else if Path::new(&format!("/proc/{pid}")).exists() {
                swept.running.insert(pid);
            } else {
                names.push(name);
            }
        }
        names
    };
    let (namespaces, folders) = (doomed(list(Path::new(netns::FOLDER))), doomed(list(&temporary)));
    let cgroups = doomed(hierarchy.as_deref().map(list).unwrap_or_default());
    // Namespaces first: what runs inside writes to the folders, and is in the cgroups.
    for name in namespaces {
        netns::remove(&name);
        swept.removed.push(format!("namespace {name}"));
    }
    for path in cgroups.iter().filter_map(|name| Some(hierarchy.as_ref()?.join(name))) {
        cgroup::remove(&path);
        swept.removed.push(format!("cgroup {}", path.display()));
    }
    for name in folders {
        let path = temporary.join(name);
        remove(&path);
        swept.removed.push(format!("folder {} and the pins in it", path.display()));
    }
    swept
}

/// Removes what earlier runs of `program`, whose testbeds have `prefix`, left, and prints what was done.
pub fn clean(program: &str, prefix: &str) {
    let swept = sweep(prefix, Sweep::DeadAndKept);
    swept.removed.iter().for_each(|what| println!("removed {what}"));
    for pid in &swept.running {
        println!(
            "left alone: a {program} that still runs, process {pid}; Ctrl-C or `kill {pid}` ends it and removes what it made"
        );
    }
    if swept.removed.is_empty() && swept.running.is_empty() {
        println!("nothing to remove");
    }
}

fn remove(path: &Path) {
    // Unmounting drops the pins, and with them links, programs and maps. Not mounted is no error.
    let _ = umount2(&path.join("bpf"), MntFlags::MNT_DETACH);
    if let Err(e) = std::fs::remove_dir_all(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("cannot remove {}: {e}", path.display());
    }
}
