//! `rollcall run`: the daemon, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::control::daemon::{ControlError, ErrorCode};
use crate::daemon::{self, RunOptions};

/// Run the daemon in the foreground; log to standard error (RUST_LOG sets how much)
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs it until SIGTERM, SIGINT or `rollcall down`.
pub fn run(_args: Args, config: PathBuf) -> ExitCode {
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(daemon::run(RunOptions { config }));
            // Reads beside the actor may be under way; nobody waits for them any more.
            runtime.shutdown_background();
            result
        }
        Err(e) => Err(ControlError::new(ErrorCode::System, format!("cannot start threads: {e}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("rollcall: {e}");
            if let Some(hint) = &e.hint {
                eprintln!("rollcall: {hint}");
            }
            ExitCode::from(e.code.exit_code())
        }
    }
}

/// Logs to standard error. The journal has its own clock and no colours.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let colour = !journal && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let set = if journal { builder.without_time().try_init() } else { builder.try_init() };
    // Only a test that logs already can have set one before.
    drop(set);
}
