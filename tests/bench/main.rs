//! `cargo xtask bench`: what a packet costs, and what watching many servers costs.

mod cases;
mod control;
mod packet;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Measures Rollcall.
#[derive(Parser)]
enum Bench {
    /// Nanoseconds per packet of the real program, next to a bare XDP_TX under the same wrapper
    Packet(packet::Args),
    /// Processor, memory and answers of a daemon that watches many servers, next to one that watches few
    Control(control::Args),
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> Result<()> {
    match Bench::parse() {
        Bench::Packet(args) => packet::run(&args),
        Bench::Control(args) => control::run(&args),
    }
}
