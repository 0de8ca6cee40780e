//! Peers that send half of something, read nothing, or come in crowds, over real sockets.

use std::future::Future;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::connections::Limits;
use super::daemon::ErrorCode;
use super::schema::Status;
use super::server_tests::{failure, start_within};

/// What is tested is over long before; what hangs is cut off here.
const DEADLINE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(600);

const GET: &[u8] = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("the server did not act in time")
}

/// Reads one answer's head and body.
async fn answer(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, Vec<u8>) {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.expect("an answer has a length");
            if body.len() >= length {
                return (head.to_owned(), body.as_bytes().to_vec());
            }
        }
        assert_ne!(in_time(stream.read_buf(&mut got)).await.unwrap(), 0, "the answer ended early: {text}");
    }
}

#[tokio::test]
async fn half_a_head_ends_the_connection_when_its_time_is_over() {
    let running = start_within(|limits| limits.control.head = SHORT).await;
    for begun in [&b""[..], b"GET /v1/sta", b"GET /v1/status HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = UnixStream::connect(&running.socket).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        in_time(stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "half a request was answered: {}", String::from_utf8_lossy(&rest));
    }
    running.client().get::<Status>("/v1/status").await.unwrap();
}

#[tokio::test]
async fn half_a_body_is_answered_with_408_when_its_time_is_over() {
    let running = start_within(|limits| limits.control.body = SHORT).await;
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    stream.write_all(b"POST /v1/edit HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{\"verb\"").await.unwrap();
    let (head, body) = answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    assert_eq!(failure(&body).code, ErrorCode::Usage);
}

#[tokio::test]
async fn connection_kept_alive_serves_again_and_ends_when_nothing_follows() {
    let running = start_within(|limits| limits.control.head = SHORT).await;
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        let (head, _) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!(in_time(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn peer_that_reads_no_answers_is_cut_off() {
    let running = start_within(|limits| limits.control.exchange = SHORT).await;
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    // As many requests as go in: once the answers fill the socket, nothing moves until the server gives up.
    in_time(async { while stream.write_all(GET).await.is_ok() {} }).await;
    running.client().get::<Status>("/v1/status").await.unwrap();
}

#[tokio::test]
async fn connection_over_the_limit_ends_the_one_that_was_silent_for_longest() {
    let running = start_within(|limits| (limits.control.connections, limits.control.head) = (2, LONG)).await;
    let mut all = Vec::new();
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&running.socket).await.unwrap();
        stream.write_all(GET).await.unwrap();
        answer(&mut stream).await;
        all.push(stream);
    }
    all[0].write_all(GET).await.unwrap();
    answer(&mut all[0]).await;
    running.client().get::<Status>("/v1/status").await.unwrap();
    assert_eq!(in_time(all[1].read(&mut [0; 1])).await.unwrap(), 0);
    all[0].write_all(GET).await.unwrap();
    assert!(answer(&mut all[0]).await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connection_over_the_limit_waits_while_all_others_are_busy() {
    let running = start_within(|limits| (limits.control.connections, limits.control.body) = (1, LONG)).await;
    let mut busy = UnixStream::connect(&running.socket).await.unwrap();
    busy.write_all(b"POST /v1/edit HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\nexpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    // The server asks for the body: the request is under way.
    assert_ne!(in_time(busy.read(&mut [0; 64])).await.unwrap(), 0);
    let mut waiting = UnixStream::connect(&running.socket).await.unwrap();
    waiting.write_all(GET).await.unwrap();
    assert!(timeout(SHORT, waiting.readable()).await.is_err(), "a connection over the limit was served");
    busy.write_all(&[b' '; 50]).await.unwrap();
    assert!(answer(&mut busy).await.0.starts_with("HTTP/1.1 400"));
    assert!(answer(&mut waiting).await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn idle_crowd_at_the_metrics_keeps_nobody_else_out() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let running = start_within(|limits| limits.metrics.head = LONG).await;
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(in_time(TcpStream::connect(running.metrics)).await.unwrap());
    }
    in_time(running.client().get::<Status>("/v1/status")).await.unwrap();
    assert_eq!(in_time(running.over_tcp("GET", "/metrics")).await.0, 200);
    let mut ended = 0;
    for stream in &mut crowd {
        ended += usize::from(timeout(Duration::ZERO, stream.read(&mut [0; 1])).await.is_ok());
    }
    assert!(ended >= 1000 - Limits::METRICS.connections, "only {ended} of 1000 were ended");
}

#[tokio::test]
async fn stop_does_not_wait_for_peers_that_are_silent() {
    let running = start_within(|limits| limits.control.head = LONG).await;
    let idle = UnixStream::connect(&running.socket).await.unwrap();
    let mut half = UnixStream::connect(&running.socket).await.unwrap();
    half.write_all(b"GET /v1/sta").await.unwrap();
    running.client().get::<Status>("/v1/status").await.unwrap();
    running.stop.cancel();
    in_time(running.task).await.unwrap();
    assert!(!running.socket.exists());
    drop((idle, half));
}
