//! `cargo xtask lint-ebpf`: clippy on the XDP program, with the flags and the compiler of its build.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

#[path = "../../lb-ebpf/cargo.rs"]
mod ebpf;

use crate::setup::rust;
use crate::{sys, workspace};

/// Fails at any warning.
pub fn run() -> Result<ExitCode> {
    let root = workspace::root();
    let mut clippy = match rust::ebpf_cargo() {
        // By its full name: `cargo clippy` would find rustup's first, whose compiler has no sources for the target.
        Some(_) => Command::new(rust::DISTRIBUTION_CLIPPY),
        None => workspace::cargo(),
    };
    clippy.arg("clippy");
    ebpf::complete(&mut clippy, &root, &root.join("target/lint-ebpf"), std::env::consts::ARCH);
    if let Some(cargo) = rust::ebpf_cargo() {
        clippy.env("CARGO", cargo).env("RUSTC", Path::new(cargo).with_file_name("rustc"));
    }
    sys::run(clippy.args(["--", "-D", "warnings"]))?;
    Ok(ExitCode::SUCCESS)
}
