//! The process's signals, as the actor understands them.

use tokio::signal::unix::{self, SignalKind};

use super::error::system;
use crate::control::daemon::ControlError;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Installed handlers; from their installation on no signal of these kills the process.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Installs them.
    pub fn install() -> Result<Self, ControlError> {
        let install = |kind| unix::signal(kind).map_err(|e| system(format!("cannot install a signal handler: {e}")));
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hangup: install(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn recv(&mut self) -> Option<Signal> {
        tokio::select! {
            _ = self.terminate.recv() => Some(Signal::Stop),
            _ = self.interrupt.recv() => Some(Signal::Stop),
            _ = self.hangup.recv() => Some(Signal::Reload),
        }
    }
}
