//! Probes: one check of one member, on the wire.
//!
//! A check says whether the server answers as expected, and if not, why, in a few exact words. It keeps no state and
//! judges nothing: rise and fall are the core's. What fails on this host before the server could answer (no descriptor,
//! no port, no route) begins with [`LOCAL`], so that a fault of the edge is not taken for the server's.

pub(super) mod http;
pub(super) mod tcp;
pub(crate) mod tls;

use std::fmt::Display;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::config::model::{Probe, ProbeKind};

/// How the error of a check begins when this host, not the server, is at fault.
pub const LOCAL: &str = "local: ";

/// Checks a server once, within `probe.timeout`. `port` is used as given: the caller prefers `probe.port`.
pub async fn check(probe: &Probe, address: IpAddr, port: u16) -> Result<(), String> {
    let to = SocketAddr::new(address, port);
    let deadline = Deadline::after(probe.timeout);
    let stream = tcp::connect(to, deadline).await?;
    match &probe.kind {
        ProbeKind::Tcp => Ok(()),
        ProbeKind::Http(http) => match &http.tls {
            None => http::check(stream, http, to, deadline).await,
            Some(tls) => {
                let stream = tls::connect(stream, tls, to, deadline).await?;
                http::check(stream, http, to, deadline).await
            }
        },
    }
}

/// The end of a check, for all its steps together.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    total: Duration,
}

impl Deadline {
    pub(super) fn after(total: Duration) -> Self {
        Self { at: Instant::now() + total, total }
    }

    /// Runs one step. `doing` names it in the error if time runs out.
    pub(super) async fn within<T>(self, doing: &str, step: impl Future<Output = T>) -> Result<T, String> {
        let late = |_| format!("timed out after {} ({doing})", Seconds(self.total));
        timeout_at(self.at, step).await.map_err(late)
    }
}

/// A duration as people write it: `1 s`, `1.5 s`, `250 ms`.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{} s", self.0.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_people_do() {
        let written = [250, 1000, 1500, 90_000].map(|ms| Seconds(Duration::from_millis(ms)).to_string());
        assert_eq!(written, ["250 ms", "1 s", "1.5 s", "90 s"]);
    }
}
