//! Endpoints that mean harm, or are broken: whatever they do, a question ends in time, takes few bytes, and yields a
//! reason.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;
use crate::config::memory::AgentCheck;

const AGENT: MemoryKind = MemoryKind::Agent { token_file: None };

/// A server whose only connection is given to `serve`, and what `serve` returns at its end.
fn server<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (SocketAddr, Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let result = serve(listener.accept().unwrap().0);
        // The test may have failed meanwhile.
        let _ = sender.send(result);
    });
    (address, receiver)
}

/// Reads the request's head, so that closing does not reset the connection.
fn head(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    String::from_utf8(request).unwrap()
}

/// A server that answers one request with these bytes.
fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    let serve = move |mut stream: TcpStream| {
        head(&mut stream);
        // The client may leave before it has read all.
        let _ = stream.write_all(&answer);
    };
    server(serve).0
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn read_of(kind: MemoryKind, to: SocketAddr) -> Result<Sample, MemoryError> {
    let started = Instant::now();
    let result = read(&MemorySource { kind, to, interval: Duration::from_secs(5) }).await;
    let took = started.elapsed();
    assert!(took < TIME + Duration::from_secs(1), "took {took:?}");
    result
}

async fn ask_of(to: SocketAddr) -> Result<crate::core::memory::advice::Advice, MemoryError> {
    let started = Instant::now();
    let result = ask(&AgentCheck { to, interval: Duration::from_secs(5) }).await;
    assert!(started.elapsed() < TIME + Duration::from_secs(1), "took {:?}", started.elapsed());
    result
}

fn headroom(time: Timestamp, numbers: &str) -> String {
    format!(r#"{{"schema":"rollcall.headroom/v1","time":"{time}",{numbers}}}"#)
}

/// The daemon asks in tasks, which go from thread to thread.
#[tokio::test]
async fn questions_can_be_tasks() {
    let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let interval = Duration::from_secs(5);
    for kind in [AGENT, MemoryKind::NodeExporter] {
        let task = tokio::spawn(async move { read(&MemorySource { kind, to, interval }).await });
        assert_eq!(task.await.unwrap().unwrap_err().to_string(), "connection refused");
    }
    let task = tokio::spawn(async move { ask(&AgentCheck { to, interval }).await });
    assert_eq!(task.await.unwrap().unwrap_err().to_string(), "connection refused");
}

#[tokio::test]
async fn agents_document_becomes_a_sample() {
    let numbers = r#""total_bytes":1024,"available_bytes":256,"pressure_some_avg10_ratio":0.5,"later":{"a":[1]}"#;
    let sample = read_of(AGENT, answering(ok(&headroom(Timestamp::now(), numbers)))).await;
    assert_eq!(sample, Ok(Sample { total_bytes: 1024, available_bytes: 256, pressure: Some(0.5) }));
    let without = r#""total_bytes":1024,"available_bytes":256"#;
    let sample = read_of(AGENT, answering(ok(&headroom(Timestamp::now(), without)))).await;
    assert_eq!(sample.unwrap().pressure, None);
}

#[rstest]
#[case::negative(r#""total_bytes":1024,"available_bytes":-1"#, "invalid value: integer `-1`, expected u64")]
#[case::not_a_number(r#""total_bytes":1024,"available_bytes":NaN"#, "expected value")]
#[case::text(r#""total_bytes":"\u001b[31m","available_bytes":1"#, "invalid type: string \"\\u{1b}[31m\", expected u64")]
#[case::fraction(r#""total_bytes":1.5,"available_bytes":1"#, "invalid type: floating point `1.5`, expected u64")]
#[case::missing(r#""total_bytes":1024"#, "missing field `available_bytes`")]
#[case::all_used_twice(r#""total_bytes":1024,"available_bytes":1025"#, "1025 bytes are said to be available of 1024")]
#[case::no_memory(r#""total_bytes":0,"available_bytes":0"#, "total memory is 0")]
#[case::absurd(r#""total_bytes":9223372036854775807,"available_bytes":1"#, "total memory is more than 2^60 bytes")]
#[case::pressure(
    r#""total_bytes":9,"available_bytes":1,"pressure_some_avg10_ratio":1e300"#,
    "pressure is not a share of 0 to 1"
)]
#[tokio::test]
async fn agents_document_with_wrong_numbers_is_refused(#[case] numbers: &str, #[case] why: &str) {
    let error = read_of(AGENT, answering(ok(&headroom(Timestamp::now(), numbers)))).await.unwrap_err();
    assert!(matches!(error, MemoryError::Unbelievable(_)) && error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn agents_document_of_another_time_is_refused() {
    let numbers = r#""total_bytes":1024,"available_bytes":256"#;
    for (ahead_s, why) in [(-90, "it was measured 9"), (90, "s in the future")] {
        let time = Timestamp::now() + SignedDuration::from_secs(ahead_s);
        let error = read_of(AGENT, answering(ok(&headroom(time, numbers)))).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[rstest]
#[case::another_page(ok("<html>It works!</html>"), "no rollcall.headroom/v1 document: expected value")]
#[case::another_document(
    ok(r#"{"schema":"rollcall.status\u001b/v1"}"#),
    "a rollcall.status/v1 document, not rollcall.headroom/v1"
)]
#[case::half(
    "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"schema\":".to_owned(),
    "connection closed before the response was complete"
)]
#[case::redirect(
    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
    "status 302, and redirects are not followed"
)]
#[case::told_why(
    ok(r#"{"schema":"rollcall.error/v1","code":"unavailable","message":"no \u001bcgroup"}"#).replace("200 OK", "503 X"),
    "status 503: no cgroup"
)]
#[case::endless_headers(
    format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
    "response headers exceed 16 KiB"
)]
#[case::another_protocol("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "not an HTTP/1.1 response")]
#[case::too_long(ok(&" ".repeat(4097)), "the answer exceeds 4 KiB")]
#[tokio::test]
async fn answer_that_is_no_agents_is_refused_with_the_reason(#[case] answer: String, #[case] why: &str) {
    let error = read_of(AGENT, answering(answer)).await.unwrap_err().to_string();
    assert!(error.starts_with(why), "{error}");
}

#[tokio::test]
async fn redirect_of_node_exporter_is_not_followed() {
    let answer = "HTTP/1.1 301 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let error = read_of(MemoryKind::NodeExporter, answering(answer)).await.unwrap_err();
    assert_eq!(error.to_string(), "status 301, and redirects are not followed");
}

#[rstest]
#[case::nothing("", "waiting for the response")]
#[case::half_a_head("HTTP/1.1 200 OK\r\nContent-", "waiting for the response")]
#[case::half_a_body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", "reading the body")]
#[tokio::test]
async fn server_that_hangs_is_left_after_a_second(
    #[case] answer: &'static str,
    #[case] step: &str,
    #[values(AGENT, MemoryKind::NodeExporter)] kind: MemoryKind,
) {
    let (to, _end) = server(move |mut stream| {
        head(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        // Until the client leaves.
        let _ = stream.read(&mut [0]);
    });
    let error = read_of(kind, to).await.unwrap_err();
    assert_eq!(error.to_string(), format!("timed out after 1 s ({step})"));
}

#[rstest]
#[tokio::test]
async fn server_that_drips_gains_no_time(#[values(AGENT, MemoryKind::NodeExporter)] kind: MemoryKind) {
    let (to, end) = server(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n");
        let mut sent = 0;
        while stream.write_all(b" ").is_ok() {
            sent += 1;
            // A drip is slow: that is what is tested.
            std::thread::sleep(Duration::from_millis(10));
        }
        sent
    });
    let error = read_of(kind, to).await.unwrap_err();
    assert_eq!(error.to_string(), "timed out after 1 s (reading the body)");
    assert!(end.recv_timeout(Duration::from_secs(10)).unwrap() > 10);
}

/// 100 MB, with and without saying so. What the server can send is what the sockets' buffers hold, and what is read.
#[rstest]
#[case::agent(AGENT, "the answer exceeds 4 KiB")]
#[case::node_exporter(MemoryKind::NodeExporter, "node_memory_MemTotal_bytes and ")]
#[tokio::test]
async fn server_that_floods_is_left_at_the_limit(
    #[case] kind: MemoryKind,
    #[case] why: &str,
    #[values("Content-Length: 100000000", "Connection: close")] header: &'static str,
) {
    let (to, end) = server(move |mut stream| {
        head(&mut stream);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n\r\n");
        let piece = b"flood_total 1\n".repeat(1000);
        let mut sent = 0;
        while sent < 100_000_000 && stream.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        sent
    });
    let error = read_of(kind, to).await.unwrap_err().to_string();
    assert!(error.starts_with(why), "{error}");
    let sent = end.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(sent < 20_000_000, "{sent} bytes were taken");
}

/// An endless line must not be held either: the limit of bytes ends it.
#[tokio::test]
async fn node_exporter_without_line_ends_is_left_at_the_limit() {
    let error = read_of(MemoryKind::NodeExporter, answering(ok(&"x".repeat(3 << 20)))).await.unwrap_err();
    assert!(matches!(error, MemoryError::Unbelievable(Unbelievable::Format(_))), "{error}");
}

#[tokio::test]
async fn node_exporter_is_left_as_soon_as_both_lines_were_seen() {
    let (to, end) = server(|mut stream| {
        let request = head(&mut stream);
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n44\r\nnode_memory_MemAvailable_bytes 1024\n\
             node_memory_MemTotal_bytes 4096\n\r\n"
        );
        // It reads the end only because the client has left.
        let _ = stream.read(&mut [0]);
        request
    });
    let wanted = Sample { total_bytes: 4096, available_bytes: 1024, pressure: None };
    assert_eq!(read_of(MemoryKind::NodeExporter, to).await, Ok(wanted));
    let request = end.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(request.starts_with("GET /metrics?collect%5B%5D=meminfo HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn token_is_sent_and_a_missing_file_is_this_hosts_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let kind = MemoryKind::Agent { token_file: Some(file.clone()) };
    let error = read_of(kind.clone(), "127.0.0.1:1".parse().unwrap()).await.unwrap_err().to_string();
    assert_eq!(error, format!("local: token file {}: no such file or directory", file.display()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let (to, end) = server(|mut stream| head(&mut stream));
    read_of(kind, to).await.unwrap_err();
    let request = end.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(request.contains("\r\nauthorization: Bearer s3cret\r\n"), "{request}");
}

#[tokio::test]
async fn agent_check_of_a_server_that_hangs_drips_or_floods_is_left() {
    let (to, _end) = server(|mut stream| stream.read(&mut [0]).is_ok());
    assert_eq!(ask_of(to).await.unwrap_err().to_string(), "timed out after 1 s (reading the agent's line)");
    let (to, _end) = server(|mut stream| {
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(ask_of(to).await.unwrap_err().to_string(), "timed out after 1 s (reading the agent's line)");
    let (to, end) = server(|mut stream| {
        let mut sent = 0;
        while sent < 100_000_000 && stream.write_all(&[b'x'; 10_000]).is_ok() {
            sent += 10_000;
        }
        sent
    });
    assert_eq!(ask_of(to).await.unwrap_err().to_string(), "the agent's line exceeds 1024 bytes");
    assert!(end.recv_timeout(Duration::from_secs(10)).unwrap() < 20_000_000);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(ask_of(closed).await.unwrap_err().to_string(), "connection refused");
}
