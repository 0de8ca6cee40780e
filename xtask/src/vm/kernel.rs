//! Which kernels are booted, and how they are fetched: Debian's cloud kernel packages, by apt, cached by package name.
//!
//! The newest package of a line is taken, not a pinned one: archives drop superseded builds, and the floor is a
//! promise about a release, not about one build of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;

use super::{image, output};

/// Name of a line of kernels, and the packages that depend on its newest build; the first that apt knows is taken.
const KERNELS: &[(&str, &[&str])] = &[
    ("6.1", &["linux-image-6.1-cloud-amd64", "linux-image-cloud-amd64"]),
    ("6.12", &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"]),
];

/// The kernel booted when none is named: the one that the project promises to load on.
pub const DEFAULT: &str = "6.1";

/// A kernel ready to boot.
pub struct Kernel {
    /// What `uname -r` says.
    pub release: String,
    /// Uncompressed image.
    pub vmlinux: PathBuf,
    /// The package's content; modules are in `lib/modules/<release>` below it or below `usr`.
    pub root: PathBuf,
}

/// The kernels that may be asked for.
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(KERNELS.iter().map(|(name, _)| *name))
}

/// Fetches and unpacks the newest build of the line `name`, unless it is in `cache` already.
pub fn fetch(name: &str, cache: &Path) -> Result<Kernel> {
    let package = newest(name)?;
    let release = package.trim_start_matches("linux-image-").trim_end_matches("-unsigned").to_owned();
    let directory = cache.join(&package);
    let (root, vmlinux) = (directory.join("root"), directory.join("vmlinux"));
    // Written last, so its presence says that all the rest is there.
    if !vmlinux.exists() {
        println!("kernel {name}: fetching {package}");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        output(Command::new("apt-get").args(["download", &package]).current_dir(&directory))?;
        output(Command::new("dpkg-deb").arg("-x").arg(only_deb(&directory)?).arg(&root))?;
        // Debs ship no modules.dep.
        output(Command::new("/sbin/depmod").arg("-b").arg(&root).arg(&release))?;
        image::unpack(&root.join("boot").join(format!("vmlinuz-{release}")), &vmlinux)?;
    }
    Ok(Kernel { release, vmlinux, root })
}

/// The package with the newest build of a line.
fn newest(name: &str) -> Result<String> {
    let (_, metapackages) = KERNELS.iter().find(|(known, _)| *known == name).context("unknown kernel")?;
    for metapackage in *metapackages {
        // A package that apt does not know is a failure with some versions of apt-cache, empty output with others.
        let listing = Command::new("apt-cache").args(["depends", "--important", metapackage]).output();
        let depends = listing.context("cannot run apt-cache: kernels come from Debian's archive")?.stdout;
        if let Some(package) = dependency(&String::from_utf8_lossy(&depends), name) {
            return Ok(package);
        }
    }
    bail!(
        "apt offers no cloud kernel {name} (looked at {}): run `apt-get update`, and on Debian add the suite that has \
         it (bookworm has 6.1, bookworm-backports 6.12) to the apt sources",
        metapackages.join(", ")
    )
}

/// The kernel package of line `name` among the dependencies that `apt-cache depends` printed.
fn dependency(depends: &str, name: &str) -> Option<String> {
    let prefix = format!("linux-image-{name}.");
    let packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.map(str::trim).find(|package| package.starts_with(&prefix)).map(str::to_owned)
}

fn only_deb(directory: &Path) -> Result<PathBuf> {
    fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context("apt-get download left no package behind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_of_another_line_is_not_taken() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(depends, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency(depends, "6.12"), None);
        let other = "x\n  Depends: linux-image-6.12.117+deb12-cloud-amd64\n";
        assert_eq!(dependency(other, "6.1"), None, "6.12 is not a build of 6.1");
    }

    #[test]
    fn default_kernel_is_in_the_table() {
        assert!(KERNELS.iter().any(|(name, _)| *name == DEFAULT));
    }
}
