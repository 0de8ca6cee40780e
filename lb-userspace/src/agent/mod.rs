//! The memory agent: runs on backends and tells the balancer how much memory is left there.
//!
//! It reads a few files of the kernel for each request, keeps nothing between two, writes nothing, needs no privilege,
//! and knows neither the daemon nor its configuration. What it says is `rollcall.headroom/v1`; what is made of it is
//! decided where it is asked.

mod access;
mod cgroup;
mod connections;
mod hierarchy;
mod meminfo;
mod metrics;
mod prefix;
mod pressure;
mod privileges;
mod routes;
mod sources;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use prefix::Prefix;

use self::access::{Guarded, Token};
use self::connections::Limits;
use self::routes::State;
use self::sources::Sources;
use crate::control::daemon::{ControlError, ErrorCode};

/// How it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may connect. May be empty on the loopback: then everyone there.
    pub allow: Vec<Prefix>,
    /// File with the token that requests must carry.
    pub token_file: Option<PathBuf>,
    /// The cgroup that is watched beside the system; default: the topmost one that is seen.
    pub cgroup: Option<PathBuf>,
}

/// An agent that listens.
pub struct Agent {
    listener: Guarded,
    address: SocketAddr,
    state: Arc<State>,
}

impl Agent {
    /// Checks the options and listens. From here on no privilege is needed.
    pub async fn bind(options: Options) -> Result<Self, ControlError> {
        if options.allow.is_empty() && !options.listen.ip().to_canonical().is_loopback() {
            return Err(ControlError::new(
                ErrorCode::Usage,
                format!("{} is not on the loopback, and nobody is allowed to connect", options.listen),
            )
            .with_hint("name the balancers by --allow, such as --allow 10.0.0.2 --allow 2001:db8::/64"));
        }
        let token = options.token_file.as_deref().map(Token::read).transpose()?;
        let sources = Sources::find(Path::new("/proc"), options.cgroup.as_deref())?;
        let refused = |e: std::io::Error| {
            ControlError::new(ErrorCode::System, format!("cannot listen on {}: {e}", options.listen))
                .with_hint("choose another address or port by --listen, or stop what uses it")
        };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let state = Arc::new(State::new(sources, token));
        let listener = Guarded::new(listener, options.allow, Arc::clone(&state.refused));
        Ok(Self { listener, address, state })
    }

    /// Where it listens: the real port, if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        connections::serve(self.listener, routes::router(self.state), Limits::AGENT, stop).await;
    }
}

/// Listens, drops all capabilities, and answers until SIGTERM or SIGINT. Call it on the only thread of the process.
pub async fn run(options: Options) -> Result<(), ControlError> {
    let system = |e: std::io::Error| ControlError::new(ErrorCode::System, format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let agent = Agent::bind(options).await?;
    let dropped = privileges::drop_all()?;
    if nix::unistd::geteuid().is_root() {
        tracing::warn!("running as root: {dropped}, but root's files stay writable; give it a user of its own");
    } else {
        tracing::info!("{dropped}");
    }
    tracing::info!("{}", agent.state.sources.describe());
    tracing::info!("listening on {}", agent.address());
    let stop = CancellationToken::new();
    let serving = agent.serve(stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // It ends by `stop` alone.
        () = &mut serving => return Ok(()),
    }
    tracing::info!("stopping");
    stop.cancel();
    serving.await;
    Ok(())
}
