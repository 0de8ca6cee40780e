//! The CLI's side of the control socket: one connection for each request, answers checked for their schema, failures
//! turned into errors that name the mend.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;

use super::daemon::{ControlError, ErrorCode};
use super::peer::{ADMINS, READERS};
use super::schema::{Document, Envelope, Failure};

/// How long a whole exchange may take. A reload waits for grace periods, but not for seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer, bytes: the most flows that may be asked for are a twentieth of it. What answers may be no daemon.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads a document.
    pub async fn get<T: Document>(&self, path: &str) -> Result<T, ControlError> {
        self.document(Method::GET, path, Bytes::new()).await
    }

    /// Asks for a change without a body.
    pub async fn post<T: Document>(&self, path: &str) -> Result<T, ControlError> {
        self.document(Method::POST, path, Bytes::new()).await
    }

    /// Asks for a change.
    pub async fn post_json<T: Document>(&self, path: &str, body: &impl Serialize) -> Result<T, ControlError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| ControlError::new(ErrorCode::Usage, format!("the request has no JSON form: {e}")))?;
        self.document(Method::POST, path, body.into()).await
    }

    /// Whether it is certain that nobody listens on the socket. A daemon that is merely busy, or a socket that this user
    /// may not open, is not certain.
    pub async fn is_deserted(&self) -> bool {
        let connected = UnixStream::connect(&self.socket).await;
        connected.is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused))
    }

    async fn document<T: Document>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ControlError> {
        let (ok, body) = tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await.map_err(|_| {
            ControlError::new(
                ErrorCode::Unavailable,
                format!("the daemon at {} did not answer within {} s", self.socket.display(), TIMEOUT.as_secs()),
            )
            .with_hint("look at its log: journalctl -u rollcall")
        })??;
        if ok { self.decode::<T>(&body) } else { Err(self.decode::<Failure>(&body)?.into()) }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(bool, Bytes), ControlError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.cannot_connect(&e))?;
        let broken = |e: hyper::Error| {
            ControlError::new(
                ErrorCode::Unavailable,
                format!("the connection to the daemon at {} broke: {e}", self.socket.display()),
            )
            .with_hint("whether the request was carried out is unknown: look with `rollcall status`")
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "rollcall")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| ControlError::new(ErrorCode::Usage, format!("{path} is not a request: {e}")))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let ok = answer.status().is_success();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|e| match e
            .downcast::<hyper::Error>()
        {
            Ok(e) => broken(*e),
            Err(_) => self.strange(&format!("more than {MAX_ANSWER_BYTES} bytes")),
        })?;
        let body = body.to_bytes();
        driver.abort();
        Ok((ok, body))
    }

    fn decode<T: Document>(&self, body: &[u8]) -> Result<T, ControlError> {
        let value: Value = serde_json::from_slice(body).map_err(|e| self.strange(&format!("no JSON: {e}")))?;
        let schema = value.get("schema").and_then(Value::as_str).unwrap_or("nothing");
        if schema != T::SCHEMA {
            return Err(self.strange(&format!("{schema} where {} was asked for", T::SCHEMA)));
        }
        let envelope: Envelope<T> = serde_json::from_value(value)
            .map_err(|e| self.strange(&format!("a {} that is not one: {e}", T::SCHEMA)))?;
        Ok(envelope.body)
    }

    fn strange(&self, what: &str) -> ControlError {
        ControlError::new(ErrorCode::System, format!("{} answered {what}", self.socket.display()))
            .with_hint("is the daemon of the same version as this command? compare `rollcall --version`")
    }

    fn cannot_connect(&self, error: &std::io::Error) -> ControlError {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::NotFound => {
                ControlError::new(ErrorCode::Unavailable, format!("the daemon is not running (no socket at {socket})"))
                    .with_hint("start it: systemctl start rollcall, or rollcall run; or name its socket with --socket")
            }
            ErrorKind::ConnectionRefused => ControlError::new(
                ErrorCode::Unavailable,
                format!("the daemon is not running (nobody answers on {socket})"),
            )
            .with_hint("start it: systemctl start rollcall, or rollcall run; traffic goes on meanwhile"),
            ErrorKind::PermissionDenied => {
                ControlError::new(ErrorCode::Permission, format!("no permission for the daemon's socket {socket}"))
                    .with_hint(format!(
                        "run it as root, or join the group {READERS} to read, and {ADMINS} as well to change: \
                         usermod -aG {READERS} USER"
                    ))
            }
            ErrorKind::WouldBlock => ControlError::new(
                ErrorCode::Unavailable,
                format!("the daemon at {socket} is busy: as many connections wait for it as may"),
            )
            .with_hint("repeat it; if that lasts, look at what holds connections: ss -xp"),
            _ => ControlError::new(ErrorCode::Unavailable, format!("cannot reach the daemon at {socket}: {error}")),
        }
    }
}
