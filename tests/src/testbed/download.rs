//! Downloads checked byte for byte, one big or many at a time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::testbed::bed::Bed;
use crate::testbed::limits;
use crate::testbed::load::connect;
use crate::testbed::netns::Namespace;
use crate::testbed::pattern::Pattern;

/// Puts a file of `bytes` predictable bytes where every nginx of the bed serves it, as `/files/<name>`.
#[track_caller]
pub fn publish(bed: &Bed, name: &str, bytes: u64) {
    let folder = bed.scratch.path("files");
    std::fs::create_dir_all(&folder).expect("the testbed's folder is writable");
    Pattern::default().write(&folder.join(name), bytes);
}

/// Downloads `/files/<name>` over `count` connections that are all open before the first byte is asked for, and checks
/// every byte. Returns what went wrong, one line for each connection that failed.
#[track_caller]
pub fn fetch(
    host: &Namespace,
    target: SocketAddr,
    sources: &[IpAddr],
    name: &str,
    bytes: u64,
    count: usize,
    limit: Duration,
) -> Vec<String> {
    limits::raise_open_files();
    host.enter(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        runtime.block_on(async {
            let pattern = Arc::new(Pattern::default());
            let barrier = Arc::new(Barrier::new(count));
            let downloads = (0..count).map(|i| {
                let (pattern, barrier) = (Arc::clone(&pattern), Arc::clone(&barrier));
                let (source, path) = (sources[i % sources.len()], format!("/files/{name}"));
                tokio::spawn(async move {
                    let sender = timeout(limit, open(source, target)).await.unwrap_or(Err("no connection".into()));
                    // Even a failed one takes part, or the others would wait for ever.
                    barrier.wait().await;
                    let download = timeout(limit, one(sender?, target, &path, bytes, &pattern)).await;
                    download
                        .unwrap_or_else(|_| Err("not finished in time".to_owned()))
                        .map_err(|e| format!("{source}: {e}"))
                })
            });
            let mut failures = Vec::new();
            for download in downloads.collect::<Vec<_>>() {
                failures.extend(download.await.expect("a download does not panic").err());
            }
            failures
        })
    })
}

async fn open(source: IpAddr, target: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = connect(source, target).await.map_err(|e| format!("{source}: cannot connect: {e}"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn one(
    mut sender: SendRequest<Empty<Bytes>>,
    target: SocketAddr,
    path: &str,
    bytes: u64,
    pattern: &Pattern,
) -> Result<(), String> {
    let request =
        Request::get(path).header("host", target.to_string()).body(Empty::new()).map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()));
    }
    let mut body = answer.into_body();
    let mut offset = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("after {offset} bytes: {e}"))?;
        if let Some(data) = frame.data_ref() {
            pattern.check(offset, data).map_err(|at| format!("byte {at} differs"))?;
            offset += data.len() as u64;
        }
    }
    if offset == bytes { Ok(()) } else { Err(format!("{offset} bytes of {bytes}")) }
}
