//! bpf-linker, built against the LLVM that the pinned compiler uses. Only the build machine needs either.

use std::process::Command;

use anyhow::{Result, bail};

use super::{Need, packages};
use crate::sys;

const VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const PACKAGES: [&str; 4] = ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];

/// What is checked here.
pub fn need() -> Need {
    Need { name: format!("bpf-linker {VERSION}"), purpose: "linking the eBPF object", found, bring, optional: false }
}

fn found() -> Result<String, String> {
    let printed = sys::read(Command::new("bpf-linker").arg("--version"));
    match printed.as_deref().map(str::trim) {
        Some(version) if version.split_whitespace().any(|word| word == VERSION) => Ok("present".to_owned()),
        Some(version) => Err(format!("there is another one: {version}")),
        None => Err("not found in PATH, or it does not run".to_owned()),
    }
}

fn bring() -> Result<()> {
    let config = format!("{LLVM}/bin/llvm-config");
    if !sys::is_file(&config) {
        packages::update()?;
        if !packages::is_offered(PACKAGES[0]) {
            bail!(
                "this distribution has no LLVM 22. Put the release binary of bpf-linker {VERSION} from its project \
                 page into PATH, or add the LLVM project's package source for this release and run this again. Only the \
                 machine that builds needs it, not the one that runs Rollcall"
            );
        }
    }
    // Also where LLVM itself is there: the others are headers that its build needs.
    if !PACKAGES.iter().all(|package| packages::is_installed(package)) {
        packages::install(&PACKAGES)?;
    }
    let mut install = Command::new("cargo");
    install
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", "llvm-22"])
        // Its own build script and that of llvm-sys look at different variables.
        .env("LLVM_PREFIX", LLVM)
        .env("LLVM_SYS_221_PREFIX", LLVM);
    sys::run(&mut install)?;
    if sys::find("bpf-linker").is_none() {
        bail!("cargo installed it, but its folder is not in PATH; add ~/.cargo/bin to PATH");
    }
    Ok(())
}
