//! `cargo xtask demo`: sets up, builds, and runs the demo, which is a program of the `tests` crate.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace;

/// Why the demo needs root.
const WHY: &str =
    "the demo (it makes network namespaces, attaches an XDP program inside one, and leaves nothing behind)";

/// Options of `demo`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How the report is printed
    #[arg(long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
    /// Leave everything running at the end, and say how to look around
    #[arg(long)]
    keep: bool,
    /// Remove what earlier demos left, by --keep or a crash; one that still runs is named and left alone
    #[arg(long, conflicts_with_all = ["keep", "seconds", "output"])]
    clean: bool,
    /// How long the steady part before and after the failure lasts, each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    workspace::run_as_root("rollcall-demo", WHY, |command| {
        if arguments.clean {
            command.arg("--clean");
        } else {
            command.args(["--output", &arguments.output, "--seconds", &arguments.seconds.to_string()]);
        }
        if arguments.keep {
            command.arg("--keep");
        }
        Ok(())
    })
}
