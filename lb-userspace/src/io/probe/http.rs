//! HTTP/1.1 checks: one GET on a connection of its own, no redirects, and no more read than is needed.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Deadline, LOCAL, tcp};
use crate::config::model::HttpProbe;

/// Most bytes of status line and headers. A server that sends more is out of order.
const HEAD_BYTES: usize = 16 << 10;
/// Most bytes of a body that are searched.
const BODY_BYTES: usize = 64 << 10;
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

/// Sends the request and judges the answer.
pub(super) async fn check<S>(stream: S, http: &HttpProbe, to: SocketAddr, deadline: Deadline) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let host = http.host.clone().unwrap_or_else(|| to.to_string());
    exchange(stream, request(&http.path, &host)?, deadline, async |response| {
        let status = response.status().as_u16();
        if !http.status.iter().any(|range| range.contains(&status)) {
            return Err(format!("status {status}, expected {}", Ranges(&http.status)));
        }
        match &http.body {
            Some(wanted) => deadline.within("reading the body", search(response, wanted)).await?,
            None => Ok(()),
        }
    })
    .await
}

/// A request for `target`, after whose answer the connection ends.
pub(in crate::io) fn request(target: &str, host: &str) -> Result<Request<Empty<Bytes>>, String> {
    Request::get(target)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("{LOCAL}the request cannot be made: {e}"))
}

/// Sends the request and gives the response's head to `judge`, which reads of its body what it wants: nothing is read
/// ahead but one buffer of 16 KiB.
pub(in crate::io) async fn exchange<S, T, E>(
    stream: S,
    request: Request<Empty<Bytes>>,
    deadline: Deadline,
    judge: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
) -> Result<T, E>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: From<String>,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| describe(&e))?;
    let exchange = async {
        let waiting = deadline.within("waiting for the response", sender.send_request(request));
        let response = waiting.await?.map_err(|e| describe(&e))?;
        judge(response).await
    };
    tokio::pin!(exchange);
    // The connection does the work while the exchange waits; both end here. An error of the connection reaches the
    // exchange, too, so that only its own result counts. No orderly shutdown: the socket ends by a reset anyway, and a FIN
    // before it was a tenth of what probing costs.
    tokio::select! {
        result = &mut exchange => result,
        _ = connection.without_shutdown() => exchange.await,
    }
}

/// Looks for a text in the first [`BODY_BYTES`] of a body, and stops reading where it is found.
async fn search<B>(response: Response<B>, wanted: &str) -> Result<(), String>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut body = response.into_body();
    let mut seen = Vec::new();
    let mut from = 0;
    while seen.len() < BODY_BYTES {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(|e| describe(&e))?.into_data() else { continue };
        let room = BODY_BYTES - seen.len();
        seen.extend_from_slice(&data[..data.len().min(room)]);
        if contains(&seen[from..], wanted.as_bytes()) {
            return Ok(());
        }
        // A match may straddle two frames.
        from = seen.len().saturating_sub(wanted.len());
    }
    Err(format!("body does not contain {wanted:?}"))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|w| w == wanted)
}

/// What went wrong in a few words.
pub(in crate::io) fn describe(error: &hyper::Error) -> String {
    const CUT: &str = "connection closed before the response was complete";
    if let Some(io) = error.source().and_then(|e| e.downcast_ref::<io::Error>()) {
        // Of a body; a head that is cut is an incomplete message.
        return if io.kind() == io::ErrorKind::UnexpectedEof { CUT.to_owned() } else { tcp::words(io) };
    }
    if error.is_parse_too_large() {
        return format!("response headers exceed {} KiB", HEAD_BYTES >> 10);
    }
    if error.is_canceled() {
        return "connection ended, or spoke, before the request was sent".to_owned();
    }
    if error.is_incomplete_message() {
        return CUT.to_owned();
    }
    if error.is_parse() {
        return format!("not an HTTP/1.1 response: {error}");
    }
    error.to_string()
}

/// Accepted codes as the configuration writes them: `200-399, 404`.
struct Ranges<'a>(&'a [RangeInclusive<u16>]);

impl std::fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            if range.start() == range.end() {
                write!(f, "{separator}{}", range.start())?;
            } else {
                write!(f, "{separator}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_configured() {
        assert_eq!(Ranges(&[200..=399, 404..=404]).to_string(), "200-399, 404");
    }

    #[tokio::test]
    async fn search_of_a_text_split_over_frames_finds_it() {
        for (frames, found) in [(["say o", "k now"], true), (["say o", " k now"], false)] {
            let stream = futures_util::stream::iter(frames.map(|f| Ok(hyper::body::Frame::data(Bytes::from(f)))));
            let response = Response::new(http_body_util::StreamBody::new(stream));
            assert_eq!(search(response, "ok").await.is_ok(), found, "{frames:?}");
        }
    }
}
