//! `rollcall down`: the data plane goes away, with every flow. Through the daemon if it runs; else the pinned data plane
//! is removed directly, so that a dead daemon never holds a host hostage.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use super::output::Paint;
use super::{Context, Outcome};
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::Stopping;
use crate::daemon::lock::{InstanceLock, PinLock};
use crate::io::bpf::DataPlane;

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
    let stopping = match context.client.post::<Stopping>("/v1/down").await {
        Ok(stopping) => stopping,
        Err(e) if e.code == ErrorCode::Unavailable && !context.client.is_answered().await => {
            remove(context).map(|()| Stopping { by_daemon: false })?
        }
        Err(e) => return Err(e),
    };
    context.output.show(stopping, render)
}

fn confirm() -> Result<(), ControlError> {
    if !std::io::stdin().is_terminal() {
        return Err(ControlError::new(ErrorCode::Usage, "down ends every connection through this host")
            .with_hint("say --yes to do it without being asked"));
    }
    let refused = || ControlError::new(ErrorCode::Usage, "not confirmed; nothing was changed");
    let mut answer = String::new();
    eprint!("This ends every connection through this host. Take the data plane down? [y/N] ");
    std::io::stderr().flush().map_err(|_| refused())?;
    std::io::stdin().read_line(&mut answer).map_err(|_| refused())?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused()) }
}

/// VIPs stay on the interface: what was added is known to the daemon's state alone, and the next start cleans up. The
/// daemon's lock is held meanwhile, so that a daemon that listens on another socket keeps its data plane.
fn remove(context: &Context) -> Result<(), ControlError> {
    let (pin_dir, state_dir) = crate::config::load(&context.config).map_or_else(
        |_| (PathBuf::from(PIN_DIR), PathBuf::from(STATE_DIR)),
        |loaded| (loaded.config.control.pin_dir, loaded.config.control.state_dir),
    );
    let _lock = if state_dir.exists() { Some(InstanceLock::take(&state_dir)?) } else { None };
    let _pins = PinLock::take(&pin_dir)?;
    DataPlane::remove(&pin_dir).map_err(|e| {
        ControlError::new(ErrorCode::System, format!("cannot remove the data plane at {}: {e}", pin_dir.display()))
            .with_hint("run it as root")
    })
}

fn render(stopping: &Stopping, _: Paint) -> String {
    if stopping.by_daemon {
        "the data plane is down, and the daemon stops\n".into()
    } else {
        "the daemon is not running; its pinned data plane is removed, addresses it added stay on the interface\n".into()
    }
}
