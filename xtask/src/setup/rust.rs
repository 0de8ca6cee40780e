//! The compiler: library sources for the eBPF target, and the two components that only CI needs.
//!
//! The pinned toolchain's own sources come from rustup; where that cannot fetch them, the distribution's compiler with
//! its sources builds the object instead, and the pinned one everything else.

// The build script's own: what is accepted here must be what it takes.
#[path = "../../../lb-userspace/build/compiler.rs"]
pub mod compiler;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use self::compiler::{Compiler, Origin};
use super::{Need, packages};
use crate::{sys, workspace};

/// Clippy of the distribution's compiler, for `lint-ebpf`.
pub const DISTRIBUTION_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// What is checked here.
pub(super) fn needs() -> Vec<Need> {
    let distribution_clippy = Need {
        name: "clippy of the distribution's compiler".to_owned(),
        purpose: ".ci/run only",
        found: || match Path::new(DISTRIBUTION_CLIPPY).is_file() {
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
    if compiler().is_ok_and(|compiler| compiler.origin == Origin::Distribution) {
        needs.push(distribution_clippy);
    }
    needs
}

/// The package beside the compiler that is there.
fn bring_clippy() -> Result<()> {
    let package = if packages::is_installed("rustc-web") { "rust-web-clippy" } else { "rust-clippy" };
    packages::install(&[package])
}

/// The compiler that builds the eBPF object, as lb-userspace's build script chooses it.
pub fn compiler() -> Result<Compiler, String> {
    compiler::find(Path::new("rustc"), &workspace::cargo_program(), &workspace::root())
}

fn sources() -> Result<String, String> {
    compiler().map(|compiler| compiler.to_string())
}

fn bring_sources() -> Result<()> {
    // In the workspace's root, whose pinned toolchain is meant. Its word is not enough: a toolchain that was copied or cut
    // down lists components that are not there.
    let mut rustup = Command::new("rustup");
    let rustup = sys::run(rustup.args(["component", "add", "rust-src"]).current_dir(workspace::root()));
    let present = || {
        let own = compiler().is_ok_and(|compiler| compiler.origin == Origin::Own);
        own.then_some(()).context("rustup says that rust-src is installed, but it is not there")
    };
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

fn formatter() -> Result<String, String> {
    let missing: Vec<&str> = (["fmt", "clippy"].into_iter())
        .filter(|verb| {
            let mut command = Command::new("cargo");
            sys::read(command.args([verb, "--version"]).current_dir(workspace::root())).is_none()
        })
        .collect();
    if missing.is_empty() { Ok("present".to_owned()) } else { Err(format!("no cargo {}", missing.join(", no cargo "))) }
}
