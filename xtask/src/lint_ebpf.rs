//! `cargo xtask lint-ebpf`: clippy on the XDP program, with the flags and the compiler of its build.

use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

#[path = "../../lb-ebpf/cargo.rs"]
mod ebpf;

use crate::setup::rust::{self, compiler::Origin};
use crate::{sys, workspace};

/// Fails at any warning.
pub fn run() -> Result<ExitCode> {
    let root = workspace::root();
    let compiler = rust::compiler().map_err(|lack| anyhow!("{lack}; `cargo xtask setup` brings what is missing"))?;
    let mut clippy = match compiler.origin {
        Origin::Own => Command::new(&compiler.cargo),
        // By its full name: `cargo clippy` would find rustup's first, whose compiler has no sources for the target.
        Origin::Distribution => Command::new(rust::DISTRIBUTION_CLIPPY),
    };
    clippy.arg("clippy");
    ebpf::complete(&mut clippy, &root, &root.join("target/lint-ebpf"), std::env::consts::ARCH);
    if compiler.origin == Origin::Distribution {
        clippy.env("CARGO", &compiler.cargo).env("RUSTC", &compiler.rustc);
    }
    sys::run(clippy.args(["--", "-D", "warnings"]))?;
    Ok(ExitCode::SUCCESS)
}
