//! Which cgroups limit memory on this host, and what the files of one of them say. Version 2 names them anew; version 1 is
//! still what many hosts mount, and where both are, the kernel gives the memory controller to one of them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::meminfo::Memory;

/// How the files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

/// A hierarchy of cgroups with the memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
}

/// The kernel writes "no limit" of version 1 as the largest number of whole pages that fits, which depends on their size.
const UNLIMITED_V1: u64 = 1 << 62;

impl Hierarchy {
    /// The one that limits memory, by /proc/self/mountinfo, see proc(5); `None` if none does.
    pub(super) fn find(mountinfo: &str) -> Option<Self> {
        mountinfo.lines().find_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            // Blanks in a path are written in octal; nobody mounts cgroups at such a one.
            let mount = PathBuf::from(mount.split(' ').nth(4).filter(|path| !path.contains('\\'))?);
            let (kind, options) = (file_system.split(' ').next()?, file_system.split(' ').nth(2)?);
            match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => {
                    Some(Self { version: Version::V1, mount })
                }
                "cgroup2" if has_memory(&mount) => Some(Self { version: Version::V2, mount }),
                _ => None,
            }
        })
    }

    /// The limit of the cgroup at `folder`, the `watched` one or one above it; `None` if it has none. The top of a
    /// hierarchy has none, and of version 2 neither has a cgroup for which the memory controller is not enabled.
    pub(super) fn limit(&self, folder: &Path, watched: bool) -> Result<Option<Memory>, String> {
        let [limit, usage] = match self.version {
            Version::V1 => ["memory.limit_in_bytes", "memory.usage_in_bytes"],
            Version::V2 => ["memory.max", "memory.current"],
        };
        // Before Linux 5.11, a cgroup of version 1 need not count what those below it use.
        let apart = || Ok::<_, String>(read(folder, "memory.use_hierarchy")?.is_some_and(|flag| flag.trim() == "0"));
        if self.version == Version::V1 && !watched && apart()? {
            return Ok(None);
        }
        let Some(max) = read(folder, limit)?.filter(|max| max.trim() != "max") else { return Ok(None) };
        let total_bytes = number(limit, &max)?;
        if self.version == Version::V1 && total_bytes >= UNLIMITED_V1 {
            return Ok(None);
        }
        let current = number(usage, &needed(folder, usage)?)?;
        let reclaimable = self.reclaimable(&needed(folder, "memory.stat")?);
        // Read one after the other, the numbers need not quite agree.
        let used = current.saturating_sub(reclaimable);
        Ok(Some(Memory { total_bytes, available_bytes: total_bytes.saturating_sub(used) }))
    }

    /// What the kernel takes back before anyone is refused memory: file pages that were not used lately, and of version 2
    /// caches of the kernel's own, which version 1 does not tell. Those of the cgroups below are included.
    fn reclaimable(&self, stat: &str) -> u64 {
        let field = |name: &str| {
            let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        match self.version {
            Version::V1 => field("total_inactive_file"),
            Version::V2 => field("inactive_file").saturating_add(field("slab_reclaimable")),
        }
    }
}

/// Whether a hierarchy of version 2 has the memory controller.
fn has_memory(mount: &Path) -> bool {
    let controllers = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

fn read(folder: &Path, file: &str) -> Result<Option<String>, String> {
    match std::fs::read_to_string(folder.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("cannot read {file}: {e}")),
    }
}

fn needed(folder: &Path, file: &str) -> Result<String, String> {
    read(folder, file)?.ok_or_else(|| format!("{file} is gone; was its service stopped?"))
}

fn number(file: &str, text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{file} is {:?}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::Cgroup;
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A cgroup's files of version 1, as Linux 6.18 writes them: limit, usage, and of that reclaimable, in MiB.
    fn make(folder: &Path, limit: Option<u64>, usage: u64, inactive_file: u64) {
        std::fs::create_dir_all(folder).unwrap();
        let write = |file: &str, text: String| std::fs::write(folder.join(file), text + "\n").unwrap();
        let limit = limit.map_or(9_223_372_036_854_771_712, |mib| mib * MIB);
        write("memory.limit_in_bytes", limit.to_string());
        write("memory.usage_in_bytes", (usage * MIB).to_string());
        write("memory.use_hierarchy", "1".to_owned());
        let (own, all) = (inactive_file * MIB / 2, inactive_file * MIB);
        write("memory.stat", format!("cache 9\ninactive_file {own}\nactive_file 9\ntotal_inactive_file {all}"));
    }

    fn tightest(mount: &Path, path: &str) -> Option<(String, Memory)> {
        let hierarchy = Hierarchy { version: Version::V1, mount: mount.into() };
        Cgroup::at(hierarchy, Path::new(path)).unwrap().tightest().unwrap()
    }

    #[test]
    fn limit_of_version_1_excludes_what_can_be_reclaimed_below_it_too() {
        let mount = tempfile::tempdir().unwrap();
        make(&mount.path().join("a"), Some(100), 90, 60);
        let memory = Memory { total_bytes: 100 * MIB, available_bytes: 70 * MIB };
        assert_eq!(tightest(mount.path(), "a"), Some(("/a".into(), memory)));
    }

    #[test]
    fn limit_of_version_1_is_that_of_the_tightest_level_that_counts_those_below_it() {
        let mount = tempfile::tempdir().unwrap();
        let at = |path: &str| mount.path().join(path);
        make(mount.path(), None, 5000, 0);
        make(&at("a/b/c"), None, 5, 0);
        make(&at("a/b"), Some(50), 20, 0);
        make(&at("a"), Some(200), 150, 0);
        let name = |path: &str| tightest(mount.path(), path).map(|(name, _)| name);
        assert_eq!(name("a/b/c").as_deref(), Some("/a"));
        std::fs::write(at("a/memory.use_hierarchy"), "0\n").unwrap();
        assert_eq!(name("a/b/c").as_deref(), Some("/a/b"));
        assert_eq!(name("a").as_deref(), Some("/a"), "its own processes it counts all the same");
        assert_eq!(name(""), None, "no limit at the top");
    }

    #[test]
    fn find_takes_the_hierarchy_that_has_the_memory_controller() {
        let mount = tempfile::tempdir().unwrap();
        let v2 = format!("31 25 0:27 / {} rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n", mount.path().display());
        let others = "29 25 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = |text: &str| Hierarchy::find(text).map(|found| (found.version, found.mount));
        assert_eq!(found(&format!("{v2}{others}")), None);
        let is_v1 = Some((Version::V1, "/sys/fs/cgroup/memory".into()));
        assert_eq!(found(&format!("{v2}{others}{v1}")), is_v1);
        std::fs::write(mount.path().join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        assert_eq!(found(&format!("{others}{v2}")), Some((Version::V2, mount.path().into())));
    }
}
