//! Limits of cgroups: a process may use no more than each cgroup from its own up to the top allows. What one cgroup's files
//! say is [`super::hierarchy`]'s.

use std::path::{Component, Path, PathBuf};

use super::hierarchy::Hierarchy;
use super::meminfo::Memory;

/// A cgroup and all above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    hierarchy: Hierarchy,
    /// The path below its mount point; empty for the topmost one.
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at `path`, which may be written from the mount point on, from there with a leading slash, or from the
    /// file system's root.
    pub(super) fn at(hierarchy: Hierarchy, path: &Path) -> Result<Self, String> {
        let below = path.strip_prefix(&hierarchy.mount).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        let plain = below.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || below.as_os_str().len() > MAX_PATH_BYTES || below.to_str().is_none() {
            return Err(format!("{} is no path of a cgroup", path.display()));
        }
        Ok(Self { path: below.components().filter(|part| *part != Component::CurDir).collect(), hierarchy })
    }

    /// Its name: the path below the mount point, with a leading slash.
    pub(super) fn name(&self) -> String {
        name(&self.path)
    }

    /// Where it is.
    pub(super) fn folder(&self) -> PathBuf {
        self.hierarchy.mount.join(&self.path)
    }

    /// The limit that leaves the smallest share, and whose it is; `None` if there is none.
    pub(super) fn tightest(&self) -> Result<Option<(String, Memory)>, String> {
        if !self.folder().is_dir() {
            return Err(format!("there is no cgroup {}; does its service run?", self.name()));
        }
        let mut tightest: Option<(String, Memory)> = None;
        for level in self.path.ancestors() {
            let folder = self.hierarchy.mount.join(level);
            let limit = self.hierarchy.limit(&folder, level == self.path);
            let Some(memory) = limit.map_err(|why| format!("cgroup {}: {why}", name(level)))? else { continue };
            if tightest.as_ref().is_none_or(|(_, other)| memory.is_tighter_than(*other)) {
                tightest = Some((name(level), memory));
            }
        }
        Ok(tightest)
    }
}

/// Longest path that is taken: the answer, which holds it, must stay below the 4 KiB that its readers take.
const MAX_PATH_BYTES: usize = 1024;

fn name(path: &Path) -> String {
    format!("/{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::Version;
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A cgroup's files: limit, usage, and of that reclaimable, in MiB.
    fn make(folder: &Path, max: &str, current: u64, inactive_file: u64, slab: u64) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("memory.max"), format!("{max}\n")).unwrap();
        std::fs::write(folder.join("memory.current"), format!("{}\n", current * MIB)).unwrap();
        let stat = format!(
            "anon 1\nfile 2\nactive_file 999999999\ninactive_file {}\nslab_reclaimable {}\nslab_unreclaimable 9\n",
            inactive_file * MIB,
            slab * MIB
        );
        std::fs::write(folder.join("memory.stat"), stat).unwrap();
    }

    fn at(mount: &Path, path: &str) -> Cgroup {
        let hierarchy = Hierarchy { version: Version::V2, mount: mount.into() };
        Cgroup::at(hierarchy, Path::new(path)).unwrap()
    }

    fn mib(n: u64) -> String {
        (n * MIB).to_string()
    }

    #[test]
    fn tightest_excludes_what_can_be_reclaimed() {
        let mount = tempfile::tempdir().unwrap();
        make(&mount.path().join("a"), &mib(100), 90, 50, 10);
        let cgroup = at(mount.path(), "a");
        let memory = Memory { total_bytes: 100 * MIB, available_bytes: 70 * MIB };
        assert_eq!(cgroup.tightest(), Ok(Some(("/a".into(), memory))));
    }

    #[test]
    fn tightest_looks_at_every_level_up_to_the_top() {
        let mount = tempfile::tempdir().unwrap();
        let folder = |path: &str| mount.path().join(path);
        make(&folder("a/b/c"), "max", 5, 0, 0);
        make(&folder("a/b"), &mib(50), 20, 0, 0);
        make(&folder("a"), &mib(200), 150, 0, 0);
        let cgroup = at(mount.path(), "/a/b/c");
        assert_eq!(cgroup.tightest().unwrap().unwrap().0, "/a");
        make(&folder("a/b"), &mib(50), 49, 0, 0);
        assert_eq!(cgroup.tightest().unwrap().unwrap().0, "/a/b");
        // In a container, the topmost cgroup that is seen has a limit, too.
        make(mount.path(), &mib(1000), 999, 0, 0);
        assert_eq!(cgroup.tightest().unwrap().unwrap().0, "/");
    }

    #[test]
    fn tightest_without_any_limit_is_none_and_of_no_cgroup_an_error() {
        let mount = tempfile::tempdir().unwrap();
        make(&mount.path().join("a"), "max", 5, 0, 0);
        let at = |path: &str| at(mount.path(), path);
        assert_eq!(at("a").tightest(), Ok(None));
        assert_eq!(at("").tightest(), Ok(None));
        assert_eq!(at("b/c").tightest(), Err("there is no cgroup /b/c; does its service run?".to_owned()));
        std::fs::write(mount.path().join("a/memory.max"), "many\n").unwrap();
        assert_eq!(at("a").tightest(), Err("cgroup /a: memory.max is \"many\"".to_owned()));
    }

    #[test]
    fn tightest_of_usage_above_the_limit_leaves_nothing() {
        let mount = tempfile::tempdir().unwrap();
        make(&mount.path().join("a"), &mib(10), 12, 0, 0);
        make(&mount.path().join("b"), &mib(10), 1, 4, 0);
        let available = |path: &str| at(mount.path(), path).tightest().unwrap().unwrap().1.available_bytes;
        assert_eq!((available("a"), available("b")), (0, 10 * MIB));
    }

    #[test]
    fn at_takes_each_way_to_write_a_path_and_none_that_leads_out() {
        let hierarchy = Hierarchy { version: Version::V2, mount: "/sys/fs/cgroup".into() };
        let at = |path: &str| Cgroup::at(hierarchy.clone(), Path::new(path)).map(|c| c.name());
        for path in ["system.slice/x.service", "/system.slice/x.service", "/sys/fs/cgroup/system.slice/x.service/"] {
            assert_eq!(at(path), Ok("/system.slice/x.service".to_owned()));
        }
        assert_eq!(at("/"), Ok("/".to_owned()));
        assert_eq!(at("a/../../etc"), Err("a/../../etc is no path of a cgroup".to_owned()));
        assert!(at(&"x/".repeat(600)).is_err());
    }
}
