//! `rollcall agent`: the memory agent, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Outcome;
use crate::agent::{self, Options, Prefix};

pub(super) const HELP: &str = "\
Answers GET /v1/headroom (JSON) and GET /metrics (Prometheus) until SIGTERM or Ctrl-C. Drops all capabilities once it
listens; an unprivileged user is enough.

Examples:
  rollcall agent
  rollcall agent --listen 10.0.0.11:9465 --allow 10.0.0.2 --cgroup system.slice/nginx.service
  curl http://127.0.0.1:9465/v1/headroom";

/// Where it listens, and to whom.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9465")]
    listen: SocketAddr,
    /// Who may connect, such as 10.0.0.2 or 10.0.0.0/24; may be repeated. Needed unless it listens on the loopback.
    #[arg(long, value_name = "PREFIX")]
    allow: Vec<Prefix>,
    /// File with a token that each request must carry: `Authorization: Bearer TOKEN`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The cgroup whose limits count beside the system's: that of the service that is balanced, such as
    /// system.slice/nginx.service. Default: the topmost one that this process sees, which in a container is the
    /// container's.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
}

/// Runs it until a signal. Needs a runtime of one thread: capabilities are dropped for the calling thread.
pub(super) async fn run(args: Args) -> Outcome {
    super::run::log();
    let Args { listen, allow, token_file, cgroup } = args;
    agent::run(Options { listen, allow, token_file, cgroup }).await?;
    Ok(ExitCode::SUCCESS)
}
