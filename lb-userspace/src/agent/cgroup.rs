//! Limits of cgroups (v2): a process may use no more than each cgroup from its own up to the top allows.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::meminfo::Memory;

/// A cgroup and all above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// Where the cgroup file system is mounted.
    mount: PathBuf,
    /// The path below; empty for the topmost one.
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at `path`, which may be written from the mount point on, from there with a leading slash, or from the
    /// file system's root.
    pub(super) fn at(mount: PathBuf, path: &Path) -> Result<Self, String> {
        let below = path.strip_prefix(&mount).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        let plain = below.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || below.as_os_str().len() > MAX_PATH_BYTES || below.to_str().is_none() {
            return Err(format!("{} is no path of a cgroup", path.display()));
        }
        Ok(Self { path: below.components().filter(|part| *part != Component::CurDir).collect(), mount })
    }

    /// Its name: the path below the mount point, with a leading slash.
    pub(super) fn name(&self) -> String {
        name(&self.path)
    }

    /// Where it is.
    pub(super) fn folder(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// The limit that leaves the smallest share, and whose it is; `None` if there is none.
    pub(super) fn tightest(&self) -> Result<Option<(String, Memory)>, String> {
        if !self.folder().is_dir() {
            return Err(format!("there is no cgroup {}; does its service run?", self.name()));
        }
        let mut tightest: Option<(String, Memory)> = None;
        for level in self.path.ancestors() {
            let folder = self.mount.join(level);
            let Some(memory) = limit(&folder).map_err(|why| format!("cgroup {}: {why}", name(level)))? else {
                continue;
            };
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

/// The limit of one cgroup. The top of the hierarchy has none, and neither has one for which the memory controller is
/// not enabled.
fn limit(folder: &Path) -> Result<Option<Memory>, String> {
    let read = |file: &str| match std::fs::read_to_string(folder.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("cannot read {file}: {e}")),
    };
    let needed = |file: &str| read(file)?.ok_or_else(|| format!("{file} is gone; was its service stopped?"));
    let number =
        |file: &str, text: &str| text.trim().parse::<u64>().map_err(|_| format!("{file} is {:?}", text.trim()));
    let Some(max) = read("memory.max")?.filter(|max| max.trim() != "max") else { return Ok(None) };
    let total_bytes = number("memory.max", &max)?;
    let current = number("memory.current", &needed("memory.current")?)?;
    let reclaimable = reclaimable(&needed("memory.stat")?);
    // Read one after the other, the numbers need not quite agree.
    let used = current.saturating_sub(reclaimable);
    Ok(Some(Memory { total_bytes, available_bytes: total_bytes.saturating_sub(used) }))
}

/// What the kernel takes back before anyone is refused memory: file pages that were not used lately, and caches of the
/// kernel's own. Those of the cgroups below are included.
fn reclaimable(stat: &str) -> u64 {
    let field = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    field("inactive_file").saturating_add(field("slab_reclaimable"))
}

/// Where cgroups (v2) are mounted, by /proc/self/mountinfo; see proc(5).
pub(super) fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let is_cgroup2 = file_system.split(' ').next() == Some("cgroup2");
        // Blanks in a path are written in octal; nobody mounts cgroups at such a one.
        mount.split(' ').nth(4).filter(|path| is_cgroup2 && !path.contains('\\')).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
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

    fn mib(n: u64) -> String {
        (n * MIB).to_string()
    }

    #[test]
    fn tightest_excludes_what_can_be_reclaimed() {
        let mount = tempfile::tempdir().unwrap();
        make(&mount.path().join("a"), &mib(100), 90, 50, 10);
        let cgroup = Cgroup::at(mount.path().into(), Path::new("a")).unwrap();
        let memory = Memory { total_bytes: 100 * MIB, available_bytes: 70 * MIB };
        assert_eq!(cgroup.tightest(), Ok(Some(("/a".into(), memory))));
    }

    #[test]
    fn tightest_looks_at_every_level_up_to_the_top() {
        let mount = tempfile::tempdir().unwrap();
        let at = |path: &str| mount.path().join(path);
        make(&at("a/b/c"), "max", 5, 0, 0);
        make(&at("a/b"), &mib(50), 20, 0, 0);
        make(&at("a"), &mib(200), 150, 0, 0);
        let cgroup = Cgroup::at(mount.path().into(), Path::new("/a/b/c")).unwrap();
        assert_eq!(cgroup.tightest().unwrap().unwrap().0, "/a");
        make(&at("a/b"), &mib(50), 49, 0, 0);
        assert_eq!(cgroup.tightest().unwrap().unwrap().0, "/a/b");
        // In a container, the topmost cgroup that is seen has a limit, too.
        make(mount.path(), &mib(1000), 999, 0, 0);
        assert_eq!(cgroup.tightest().unwrap().unwrap().0, "/");
    }

    #[test]
    fn tightest_without_any_limit_is_none_and_of_no_cgroup_an_error() {
        let mount = tempfile::tempdir().unwrap();
        make(&mount.path().join("a"), "max", 5, 0, 0);
        let at = |path: &str| Cgroup::at(mount.path().into(), Path::new(path)).unwrap();
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
        let available = |path: &str| {
            Cgroup::at(mount.path().into(), Path::new(path)).unwrap().tightest().unwrap().unwrap().1.available_bytes
        };
        assert_eq!((available("a"), available("b")), (0, 10 * MIB));
    }

    #[test]
    fn at_takes_each_way_to_write_a_path_and_none_that_leads_out() {
        let at = |path: &str| Cgroup::at("/sys/fs/cgroup".into(), Path::new(path)).map(|c| c.name());
        for path in ["system.slice/x.service", "/system.slice/x.service", "/sys/fs/cgroup/system.slice/x.service/"] {
            assert_eq!(at(path), Ok("/system.slice/x.service".to_owned()));
        }
        assert_eq!(at("/"), Ok("/".to_owned()));
        assert_eq!(at("a/../../etc"), Err("a/../../etc is no path of a cgroup".to_owned()));
        assert!(at(&"x/".repeat(600)).is_err());
    }

    #[test]
    fn mount_point_is_that_of_version_2() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let v2 = "31 25 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount_point(&format!("{v1}{v2}")), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point(v1), None);
    }
}
