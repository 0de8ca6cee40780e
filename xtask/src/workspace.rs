//! The workspace: its root, its programs, its test targets.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::setup;
use crate::sys::{self, Root};

/// The workspace's root.
///
/// Asked at run time: what a build once wrote down is another's if the target folder was moved or shared.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("..")
}

/// Cargo, in the workspace's root.
pub fn cargo() -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(root());
    command
}

/// The cargo that runs this.
pub fn cargo_program() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// What `cargo metadata` says of the workspace's own packages.
pub fn metadata() -> Result<Value> {
    let text = sys::read(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))
        .context("`cargo metadata` failed: the workspace cannot be read")?;
    serde_json::from_str(&text).context("`cargo metadata` printed no JSON")
}

/// Builds the daemon and the testbed's programs; the folder they are in. Not quietly: a first build takes minutes.
pub fn build_programs() -> Result<PathBuf> {
    sys::run(cargo().args(["build", "--package", "lb-userspace", "--package", "lb-tests", "--bins"]))?;
    Ok(target()?.join("debug"))
}

/// Builds the testbed's programs and runs one of them as root; `what_for` says what needs that, `arguments` what it is told.
pub fn run_as_root(
    program: &str,
    what_for: &str,
    arguments: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<ExitCode> {
    let root = Root::find();
    // Before minutes of building, not after.
    root.command("true", what_for)?;
    setup::ensure()?;
    let mut command = root.command(build_programs()?.join(program), what_for)?;
    arguments(&mut command)?;
    let status = command.status().with_context(|| format!("cannot run {program}, which was just built"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The target folder.
pub fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
    Ok(target.into())
}
