//! `rollcall completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Context, Outcome};

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rollcall completions bash > /usr/share/bash-completion/completions/rollcall")]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(context: &Context, args: &Args) -> Outcome {
    // Not straight to standard output: clap panics where a reader has gone.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rollcall", &mut text);
    context.output.print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
