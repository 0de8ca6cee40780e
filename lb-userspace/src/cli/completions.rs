//! `rollcall completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Outcome};

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rollcall completions bash > /usr/share/bash-completion/completions/rollcall")]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Outcome {
    clap_complete::generate(args.shell, &mut Cli::command(), "rollcall", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
