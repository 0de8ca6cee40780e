//! `cargo xtask drill`: sets up, builds, and runs the drill, which is a program of the `tests` crate.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace;

/// Why the drill needs root.
const WHY: &str = "the drill (it makes network namespaces and cgroups, attaches XDP programs inside the former, lets servers \
                   run out of memory inside the latter, and leaves nothing behind)";

/// Options of `drill`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How the page at the end is printed
    #[arg(long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
    /// Which stories are told: the plain balancer's, the one in which web-01's memory calls web-02 back, the one in which
    /// the end of the lease brings it back, or all, side by side
    #[arg(long, value_parser = ["all", "plain", "recall", "lease-end"], default_value = "all")]
    story: String,
    /// Act yourself, by typing commands: for training. Slower, and without lease-end unless that is named
    #[arg(long)]
    interactive: bool,
    /// Remove what earlier drills left by a crash; one that still runs is named and left alone
    #[arg(long, conflicts_with_all = ["output", "story", "interactive"])]
    clean: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    workspace::run_as_root("rollcall-drill", WHY, |command| {
        if arguments.clean {
            command.arg("--clean");
        } else {
            command.args(["--output", &arguments.output, "--story", &arguments.story]);
        }
        if arguments.interactive {
            command.arg("--interactive");
        }
        Ok(())
    })
}
