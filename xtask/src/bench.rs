//! `cargo xtask bench packet` and `bench control`: the benchmarks are a program of the `tests` crate.

use std::process::ExitCode;

use anyhow::Result;

use crate::sys;
use crate::workspace;

/// Why it needs root.
const WHY: &str = "the benchmark (it loads BPF programs, and attaches them to interfaces of its own namespaces alone)";

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Nanoseconds per packet of the real program, next to a bare XDP_TX in the same run
    Packet(Packet),
    /// Processor, memory and answers of a daemon that watches 1,000 servers, next to one that watches 10
    Control(Control),
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

/// Options of `bench control`.
#[derive(clap::Args)]
pub struct Control {
    /// How the result is printed
    #[arg(long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
    /// Servers
    #[arg(long, default_value_t = 1000)]
    backends: u16,
    /// Seconds over which the processor is measured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs it.
pub fn run(what: &Bench) -> Result<ExitCode> {
    workspace::run_as_root("lb-bench", WHY, |command| {
        match what {
            Bench::Packet(packet) => {
                command.args(["packet", "--output", &packet.output]);
                command.args(["--packets", &packet.packets.to_string(), "--rounds", &packet.rounds.to_string()]);
            }
            Bench::Control(control) => {
                // What users run is the optimised program.
                sys::run(workspace::cargo().args(["build", "--release", "--package", "lb-userspace"]))?;
                command.env("ROLLCALL_BINARY", workspace::target()?.join("release/rollcall"));
                command.args(["control", "--output", &control.output]);
                command.args(["--backends", &control.backends.to_string(), "--seconds", &control.seconds.to_string()]);
            }
        }
        Ok(())
    })
}
