//! One POST over a connection of its own. Redirects are refused: whoever answers must not choose where alerts go. Of the
//! answer no more is read than an error message needs.

use std::io;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::excerpt;
use crate::config::model::HttpUrl;
use crate::io::probe::tls;

/// Most bytes of status line and headers.
const HEAD_BYTES: usize = 16 << 10;
/// Most bytes of the answer's body that are read, for the message of an error.
const BODY_BYTES: usize = 512;
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

/// POSTs JSON to `path` of the URL's server. Any status of 200 to 299 is success.
pub(super) async fn post(url: &HttpUrl, path: &str, body: Vec<u8>) -> Result<(), String> {
    let stream = connect(url).await?;
    if !url.tls {
        return exchange(stream, url, path, body).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|e| format!("{}: {e}", url.host))?;
    let shaken = TlsConnector::from(tls::config(true)?).connect(name, stream).await;
    exchange(shaken.map_err(|e| format!("TLS: {e}"))?, url, path, body).await
}

/// Tries the server's addresses in the resolver's order.
async fn connect(url: &HttpUrl) -> Result<TcpStream, String> {
    let place = (url.host.as_str(), url.port.get());
    let addresses: Vec<SocketAddr> = lookup_host(place).await.map_err(|e| format!("{}: {e}", url.host))?.collect();
    let mut last = format!("{} has no address", url.host);
    // One that does not answer must not take all the time from the next.
    let share = super::EXCHANGE / u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1).max(2);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = format!("{address}: {}", words(&e)),
            Err(_) => last = format!("{address}: no answer"),
        }
    }
    Err(last)
}

async fn exchange<S>(stream: S, url: &HttpUrl, path: &str, body: Vec<u8>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let request = Request::post(path)
        .header(HOST, url.authority())
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| format!("the request cannot be made: {e}"))?;
    let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said = read(response.into_body()).await;
        Err(refusal(status, &said))
    };
    tokio::pin!(answer);
    // The connection does the work while the answer is waited for; both end here.
    tokio::select! {
        result = &mut answer => result,
        _ = connection => answer.await,
    }
}

fn refusal(status: StatusCode, said: &[u8]) -> String {
    let what = if status.is_redirection() { "answered with a redirect, which is not followed" } else { "refused it" };
    format!("{what}: {status} {}", excerpt(said)).trim_end().to_owned()
}

/// The beginning of a body; what cannot be read is not there.
async fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < BODY_BYTES {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Ok(data) = frame.into_data() {
            seen.extend_from_slice(&data[..data.len().min(BODY_BYTES - seen.len())]);
        }
    }
    seen
}

fn words(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_lowercase())
}
