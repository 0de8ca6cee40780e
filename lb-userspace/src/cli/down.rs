//! `rollcall down`: the data plane goes away, with every flow. Through the daemon if it runs; else what it
//! left is removed directly, so that a dead daemon never holds a host hostage.

use std::io::{ErrorKind, IsTerminal};

use super::output::{self, Paint};
use super::{Context, Outcome};
use crate::config::ConfigError;
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::Stopping;
use crate::daemon::remains;

/// Where the daemon keeps its state and its lock, unless the configuration says otherwise.
const STATE_DIR: &str = "/var/lib/rollcall";
/// Where the data plane is pinned, unless the configuration says otherwise.
const PIN_DIR: &str = "/sys/fs/bpf/rollcall";

/// Whether to ask first.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    if !args.yes {
        confirm()?;
    }
    let left = match context.client.post::<Stopping>("/v1/down").await {
        Ok(stopping) => return context.output.show(stopping, render),
        Err(e) if e.code == ErrorCode::Unavailable && context.client.is_deserted().await => remove(context).await?,
        Err(e) => return Err(e),
    };
    if !left.is_empty() {
        return Err(ControlError::new(
            ErrorCode::System,
            format!("the data plane is removed, but not all that the daemon left: {}", left.join("; ")),
        )
        .with_hint("remove that by hand, or mend the cause and repeat `rollcall down`"));
    }
    context.output.show(Stopping { by_daemon: false }, render)
}

fn confirm() -> Result<(), ControlError> {
    if !std::io::stdin().is_terminal() {
        return Err(ControlError::new(ErrorCode::Usage, "down ends every connection through this host")
            .with_hint("say --yes to do it without being asked"));
    }
    output::confirm("This ends every connection through this host. Take the data plane down?", ErrorCode::Usage)
}

/// A file that is there but wrong may have named other places: then what to remove is not known.
/// Returns what could not be removed.
async fn remove(context: &Context) -> Result<Vec<String>, ControlError> {
    let (pin_dir, state_dir) = match crate::config::load(&context.config) {
        Ok(loaded) => (loaded.config.control.pin_dir, loaded.config.control.state_dir),
        Err(ConfigError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            (PIN_DIR.into(), STATE_DIR.into())
        }
        Err(e) => {
            return Err(ControlError::from(e).with_hint(
                "without a daemon, the file says what to take down: correct it, or name another by --config",
            ));
        }
    };
    remains::remove(&pin_dir, &state_dir, context.client.socket()).await
}

fn render(stopping: &Stopping, _: Paint) -> String {
    if stopping.by_daemon {
        "the data plane is down, and the daemon stops\n".into()
    } else {
        "the daemon is not running; what it left, data plane and addresses, is removed\n".into()
    }
}
