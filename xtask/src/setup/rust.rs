//! The compiler: library sources for the eBPF target, and the two components that only CI needs.
//!
//! `core` is built for the eBPF target from source. The pinned toolchain's own sources come from rustup; where that
//! cannot fetch them, the distribution's compiler with its sources builds the object instead, and the pinned one
//! everything else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::{Need, packages};
use crate::sys;

const DISTRIBUTION_CARGO: &str = "/usr/bin/cargo";
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";
/// Clippy of the same compiler, for `lint-ebpf`.
pub const DISTRIBUTION_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// What is checked here.
pub(super) fn needs() -> Vec<Need> {
    let distribution_clippy = Need {
        name: "clippy of the distribution's compiler".to_owned(),
        purpose: ".ci/run only",
        found: || match sys::is_file(DISTRIBUTION_CLIPPY) {
            true => Ok("present".to_owned()),
            false => Err(format!("no {DISTRIBUTION_CLIPPY}")),
        },
        bring: bring_clippy,
        optional: true,
    };
    let mut needs = vec![
        Need {
            name: "library sources".to_owned(),
            purpose: "building `core` for the eBPF target",
            found: sources,
            bring: bring_sources,
            optional: false,
        },
        Need {
            name: "rustfmt and clippy".to_owned(),
            purpose: ".ci/run only",
            found: formatter,
            bring: || sys::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"])),
            optional: true,
        },
    ];
    if ebpf_cargo().is_some() {
        needs.push(distribution_clippy);
    }
    needs
}

/// The package beside the compiler that is there.
fn bring_clippy() -> Result<()> {
    let package = if packages::is_installed("rustc-web") { "rust-web-clippy" } else { "rust-clippy" };
    packages::install(&[package])
}

/// The cargo that must build the eBPF object, if it is not the one that builds the rest.
pub fn ebpf_cargo() -> Option<&'static str> {
    let own = library(Path::new("rustc")).is_some();
    (!own && distribution().is_some()).then_some(DISTRIBUTION_CARGO)
}

fn sources() -> Result<String, String> {
    if let Some(path) = library(Path::new("rustc")) {
        return Ok(format!("of the pinned toolchain, {}", path.display()));
    }
    if let Some(path) = distribution() {
        return Ok(format!("of the distribution's compiler, {}", path.display()));
    }
    Err("the pinned toolchain has no rust-src, and no compiler of the distribution has either".to_owned())
}

fn bring_sources() -> Result<()> {
    // In the workspace's root, whose pinned toolchain is meant. Its word is not enough: a toolchain that was copied or cut
    // down lists components that are not there.
    let mut rustup = Command::new("rustup");
    let rustup = sys::run(rustup.args(["component", "add", "rust-src"]).current_dir(crate::workspace::root()));
    let present = || library(Path::new("rustc")).context("rustup says that rust-src is installed, but it is not there");
    let Err(first) = rustup.and_then(|()| present()) else { return Ok(()) };
    eprintln!("{first:#}; trying the distribution's compiler and sources");
    // Debian's stable releases carry a compiler as new as browsers need under the first names.
    let sets = [["rustc-web", "cargo-web", "rust-web-src"], ["rustc", "cargo", "rust-src"]];
    let set = sets
        .iter()
        .find(|set| set.iter().all(|package| packages::is_offered(package)))
        .ok_or_else(|| anyhow!("{first:#}, and the distribution offers no compiler with sources"))?;
    packages::install(set).with_context(|| format!("{first:#}, and the distribution's {} failed", set.join(", ")))
}

fn distribution() -> Option<PathBuf> {
    if !sys::is_file(DISTRIBUTION_CARGO) || !sys::is_file(DISTRIBUTION_RUSTC) {
        return None;
    }
    library(Path::new(DISTRIBUTION_RUSTC))
}

/// Where a compiler's library sources are, if they are.
fn library(rustc: &Path) -> Option<PathBuf> {
    let sysroot = sys::read(Command::new(rustc).args(["--print", "sysroot"]).current_dir(crate::workspace::root()))?;
    let path = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    sys::is_file(path.join("core/Cargo.toml")).then_some(path)
}

fn formatter() -> Result<String, String> {
    let missing: Vec<&str> = (["fmt", "clippy"].into_iter())
        .filter(|verb| {
            let mut command = Command::new("cargo");
            sys::read(command.args([verb, "--version"]).current_dir(crate::workspace::root())).is_none()
        })
        .collect();
    if missing.is_empty() { Ok("present".to_owned()) } else { Err(format!("no cargo {}", missing.join(", no cargo "))) }
}
