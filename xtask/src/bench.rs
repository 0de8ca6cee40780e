//! `cargo xtask bench packet`: the benchmark is a program of the `tests` crate.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup;
use crate::sys::Root;
use crate::workspace;

/// Why it needs root.
const WHY: &str = "the benchmark (it loads the BPF programs that it measures; none is attached)";

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Nanoseconds per packet of the real program, next to a bare XDP_TX in the same run
    Packet(Packet),
}

/// Options of `bench packet`.
#[derive(clap::Args)]
pub struct Packet {
    /// How the result is printed
    #[arg(long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
    /// Packets per measurement
    #[arg(long, default_value_t = 300_000)]
    packets: u32,
    /// Measurements of each case; the median counts
    #[arg(long, default_value_t = 9)]
    rounds: u32,
}

/// Runs it.
pub fn run(what: &Bench) -> Result<ExitCode> {
    let Bench::Packet(packet) = what;
    let root = Root::find();
    root.command("true", WHY)?;
    setup::ensure()?;
    let folder = workspace::build_programs()?;
    let mut command = root.command(folder.join("lb-bench"), WHY)?;
    command.args(["--output", &packet.output]);
    command.args(["--packets", &packet.packets.to_string(), "--rounds", &packet.rounds.to_string()]);
    let status = command.status().context("cannot run the benchmark that was just built")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
