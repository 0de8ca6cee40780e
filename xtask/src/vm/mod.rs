//! `cargo xtask vm`: the real object on real kernels, booted under QEMU's software emulation.
//!
//! [`kernel`] fetches kernels, [`image`] unpacks them, [`initramfs`] packs the guest, [`qemu`] runs it and
//! [`facts`] judges what it reports. The guest's own program is `tests/vm/guest.rs`. Needs neither root nor KVM.

mod cpio;
mod facts;
mod image;
mod initramfs;
mod kernel;
mod payload;
mod qemu;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

/// `cargo xtask vm …`
#[derive(Debug, Args)]
pub struct Vm {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load and run the eBPF object on other kernels, under emulation
    Kernels(Kernels),
}

/// `cargo xtask vm kernels`
#[derive(Debug, Args)]
pub struct Kernels {
    /// A kernel to boot; may be repeated
    #[arg(long = "kernel", value_name = "VERSION", default_value = kernel::DEFAULT, value_parser = kernel::names())]
    kernels: Vec<String>,
}

impl Default for Kernels {
    fn default() -> Self {
        Self { kernels: vec![kernel::DEFAULT.to_owned()] }
    }
}

/// Runs the verb.
pub fn run(vm: &Vm) -> Result<()> {
    match &vm.verb {
        Verb::Kernels(args) => kernels(args),
    }
}

/// Boots each kernel in turn; all of them, also after a failure, so that one run tells everything.
pub fn kernels(args: &Kernels) -> Result<()> {
    let work = work_dir();
    let payloads = payload::build()?;
    let mut failed = Vec::new();
    for name in &args.kernels {
        if let Err(error) = boot(name, &work, &payloads) {
            eprintln!("kernel {name}: FAILED: {error:#}");
            failed.push(name.as_str());
        }
    }
    ensure!(failed.is_empty(), "failed on kernel {}", failed.join(", "));
    Ok(())
}

fn boot(name: &str, work: &Path, payloads: &[payload::Payload]) -> Result<()> {
    let kernel = kernel::fetch(name, &work.join("kernels"))?;
    let run = work.join("runs").join(name);
    fs::create_dir_all(&run).with_context(|| format!("cannot create {}", run.display()))?;
    let initrd = run.join("initrd.cpio");
    initramfs::build(&kernel, payloads, &initrd)?;
    let output = qemu::run(&qemu::Guest { kernel: &kernel.vmlinux, initrd: &initrd, logs: &run })?;
    let report = facts::judge(&output.facts, &kernel.release, payloads);
    match report {
        Ok(lines) => {
            println!("kernel {name} ({}): ok, {} s", kernel.release, output.elapsed.as_secs());
            for line in lines {
                println!("  {line}");
            }
            Ok(())
        }
        Err(error) => {
            let tail = qemu::tail(&output.console);
            Err(error.context(format!("the guest's console, {}, ends with:\n{tail}", output.console.display())))
        }
    }
}

/// Where kernels are cached and runs leave their logs.
fn work_dir() -> PathBuf {
    crate::workspace::root().join("target/vm")
}

/// Runs a tool and returns what it printed; its errors name the tool and its words.
fn output(command: &mut std::process::Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| {
        format!("cannot run `{program}`: is it installed? `cargo xtask setup` installs what the vm tests need")
    })?;
    ensure!(
        out.status.success(),
        "`{program}` failed ({}): {}",
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(out.stdout)
}
