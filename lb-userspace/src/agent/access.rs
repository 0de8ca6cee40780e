//! Who may ask: by address before anything is read, and by token.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, header};
use axum::serve::Listener;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};

use super::Prefix;
use crate::control::daemon::{ControlError, ErrorCode};
use crate::io::memory::token;

/// A listener that closes at once what comes from elsewhere.
pub(super) struct Guarded {
    listener: TcpListener,
    allow: Vec<Prefix>,
    refused: Arc<AtomicU64>,
}

impl Guarded {
    /// With an empty list everyone may connect. `refused` counts those who may not.
    pub(super) fn new(listener: TcpListener, allow: Vec<Prefix>, refused: Arc<AtomicU64>) -> Self {
        Self { listener, allow, refused }
    }
}

impl Listener for Guarded {
    type Io = TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (TcpStream, Self::Addr) {
        loop {
            // Errors such as too many open files are waited out there.
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if self.allow.is_empty() || self.allow.iter().any(|prefix| prefix.contains(peer.ip())) {
                return (stream, peer);
            }
            let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            // Fewer and fewer lines: whoever is refused must not fill the log.
            if count.is_power_of_two() {
                tracing::warn!("refused a connection of {}, which --allow does not name ({count} so far)", peer.ip());
            }
            // By a reset, so that refusing leaves nothing in TIME_WAIT; without it, it is closed in order.
            let _ = stream.set_zero_linger();
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// The token that requests must carry, as its digest: digests are of one length, so comparing them tells nothing of the
/// token's.
pub(super) struct Token([u8; 32]);

impl Token {
    /// Reads it.
    pub(super) fn read(file: &Path) -> Result<Self, ControlError> {
        let text = token::read(file).map_err(|why| {
            ControlError::new(ErrorCode::Config, format!("token file {}: {why}", file.display()))
                .with_hint("see that the file exists and this user may read it")
        })?;
        if std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) {
            tracing::warn!("token file {} can be read by everyone here: chmod o-r", file.display());
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// Whether a request carries it. Takes the same time wherever the difference is.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
        let (scheme, token) = given.split_at(given.len().min(BEARER.len()));
        let digest: [u8; 32] = Sha256::digest(token).into();
        let difference = self.0.iter().zip(digest).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        scheme.eq_ignore_ascii_case(BEARER) && difference == 0
    }
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some("Bearer s3cret"), true)]
    #[case(Some("bearer s3cret"), true)]
    #[case(None, false)]
    #[case(Some(""), false)]
    #[case(Some("Bearer "), false)]
    #[case(Some("Bearer s3cre"), false)]
    #[case(Some("Bearer s3cretx"), false)]
    #[case(Some("Bearer S3cret"), false)]
    #[case(Some("Basic s3cret"), false)]
    #[case(Some("s3cret"), false)]
    fn token_is_in_a_request_that_carries_exactly_it(#[case] given: Option<&'static str>, #[case] wanted: bool) {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(given));
        }
        assert_eq!(Token(Sha256::digest("s3cret").into()).is_in(&headers), wanted);
    }
}
