//! `cargo xtask build-ebpf`: the object that the normal build embeds, and its size.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};
use serde_json::Value;

use crate::{sys, workspace};

/// Bytes of one eBPF instruction.
const INSTRUCTION_BYTES: u64 = 8;

/// Builds, finds the object and prints what is in it.
pub fn run() -> Result<ExitCode> {
    let folder = build()?;
    let mut objects: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".bpf.o"))
        .collect();
    objects.sort();
    if objects.is_empty() {
        bail!("the build left no *.bpf.o in {}", folder.display());
    }
    objects.iter().try_for_each(|path| describe(path))?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the userspace crate; the folder where its build script leaves objects.
fn build() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--package", "lb-userspace", "--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} failed: {}", sys::line(&command), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = |message: &Value| {
        message["reason"] == "build-script-executed"
            && message["package_id"].as_str().is_some_and(|id| id.contains("lb-userspace"))
    };
    let message = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).find(ours);
    let folder = message.as_ref().and_then(|m| m["out_dir"].as_str());
    Ok(folder.context("cargo did not say where lb-userspace's build script put its output")?.into())
}

fn describe(path: &Path) -> Result<()> {
    let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*data).with_context(|| format!("{} is no ELF object", path.display()))?;
    println!("{}  {} bytes", path.display(), data.len());
    for section in file.sections().filter(|s| s.kind() == object::SectionKind::Text && s.size() > 0) {
        println!("  {:<16} {:>6} instructions", section.name()?, section.size() / INSTRUCTION_BYTES);
    }
    Ok(())
}
