//! `rollcall run`: the daemon, in the foreground.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::{Context, Outcome};
use crate::daemon::{self, RunOptions};

/// Runs it until SIGTERM, SIGINT or `rollcall down`. Needs a multi-threaded runtime.
pub(super) async fn run(context: &Context) -> Outcome {
    log();
    daemon::run(RunOptions { config: context.config.clone() }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error, for verbs that go on running. The journal has its own clock and no colours.
pub(super) fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let colour = !journal && std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    if journal {
        builder.without_time().init();
    } else {
        builder.init();
    }
}
