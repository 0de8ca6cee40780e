//! Probes against real servers, good and bad.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::process::Command;
use std::time::{Duration, Instant};

use rollcall::config::model::{HttpProbe, Probe, ProbeKind, TlsProbe};
use rollcall::io::probe::check;
use rstest::rstest;

use crate::ns::{Namespace, Pair};
use crate::servers::{LOOPBACK, Nginx, answering, read_request, server};

fn probe(kind: ProbeKind, timeout: Duration) -> Probe {
    Probe { kind, port: None, interval: timeout, timeout, rise: 1, fall: 1 }
}

fn http(path: &str) -> HttpProbe {
    HttpProbe { path: path.into(), status: vec![200..=399], body: None, host: None, tls: None }
}

pub fn run(ns: &Namespace, kind: ProbeKind, to: SocketAddr) -> Result<(), String> {
    run_for(ns, kind, to, Duration::from_secs(10))
}

fn run_for(ns: &Namespace, kind: ProbeKind, to: SocketAddr, timeout: Duration) -> Result<(), String> {
    ns.block_on(check(&probe(kind, timeout), to.ip(), to.port()))
}

#[test]
fn tcp_probe_tells_an_open_port_from_a_closed_one() {
    let ns = Namespace::new();
    let open = server(&ns, drop);
    assert_eq!(run(&ns, ProbeKind::Tcp, open), Ok(()));
    let closed = ns.run(|| TcpListener::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap());
    assert_eq!(run(&ns, ProbeKind::Tcp, closed), Err("connection refused".into()));
}

#[test]
fn connect_that_nobody_answers_times_out_within_the_timeout() {
    let pair = Pair::new();
    let started = Instant::now();
    let result = run_for(&pair.edge, ProbeKind::Tcp, "10.0.0.77:80".parse().unwrap(), Duration::from_millis(300));
    assert_eq!(result, Err("timed out after 300 ms (connecting)".into()));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn faults_of_this_host_are_told_apart_from_the_servers() {
    let pair = Pair::new();
    let result = run(&pair.edge, ProbeKind::Tcp, "192.0.2.1:80".parse().unwrap());
    assert_eq!(result, Err("local: no route to 192.0.2.1".into()));
    // One source port, and it is taken.
    let server = pair.peer.run(|| TcpListener::bind("10.0.0.2:0").unwrap());
    let to = server.local_addr().unwrap();
    pair.edge.sh("echo '40001 40001' > /proc/sys/net/ipv4/ip_local_port_range");
    let taken = pair.edge.run(|| TcpStream::connect(to).unwrap());
    assert_eq!(run(&pair.edge, ProbeKind::Tcp, to), Err(format!("local: no source port left towards {to}")));
    drop((taken, server));
    pair.edge.sh("ip route add unreachable 198.51.100.0/24");
    let error = run(&pair.edge, ProbeKind::Tcp, "198.51.100.1:80".parse().unwrap()).unwrap_err();
    assert_eq!(error, "no route to host");
}

#[test]
fn probes_leave_no_port_in_time_wait() {
    let nginx = Nginx::start();
    for _ in 0..10 {
        run(&nginx.ns, ProbeKind::Tcp, nginx.plain()).unwrap();
        nginx.check(nginx.plain(), http("/ok")).unwrap();
    }
    // nginx closes first, so its own side may have some; they are under its port.
    assert_eq!(nginx.ns.sh("ss -Htan state time-wait dport = :8080"), "");
}

#[test]
fn http_probe_of_nginx_judges_status_and_body() {
    let nginx = Nginx::start();
    let to = nginx.plain();
    let body = |text: &str| HttpProbe { body: Some(text.into()), ..http("/ok") };
    let status = |path: &str, status: Vec<RangeInclusive<u16>>| HttpProbe { status, ..http(path) };
    assert_eq!(nginx.check(to, http("/ok")), Ok(()));
    assert_eq!(nginx.check("[::1]:8080".parse().unwrap(), http("/ok")), Ok(()));
    assert_eq!(nginx.check(to, http("/busy")), Err("status 503, expected 200-399".into()));
    assert_eq!(nginx.check(to, status("/busy", vec![200..=299, 503..=503])), Ok(()));
    let moved = nginx.check(to, status("/moved", vec![200..=299, 404..=404]));
    assert_eq!(moved, Err("status 302, expected 200-299, 404".into()));
    assert_eq!(nginx.check(to, body("is ok")), Ok(()));
    assert_eq!(nginx.check(to, body("fine")), Err("body does not contain \"fine\"".into()));
}

#[test]
fn http_probe_sends_host_and_agent() {
    let nginx = Nginx::start();
    let echo = |host: Option<&str>, text: &str| HttpProbe {
        host: host.map(Into::into),
        body: Some(text.into()),
        ..http("/echo")
    };
    assert_eq!(nginx.check(nginx.plain(), echo(None, "host=127.0.0.1:8080 agent=rollcall/")), Ok(()));
    assert_eq!(nginx.check(nginx.plain(), echo(Some("shop.test"), "host=shop.test ")), Ok(()));
    let ns = Namespace::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let to = server(&ns, move |mut stream| sender.send(read_request(&mut stream)).unwrap());
    run(&ns, ProbeKind::Http(http("/a?b=c")), to).unwrap_err();
    let request = receiver.recv().unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("connection: close\r\n"), "{request}");
}

#[test]
fn https_probe_of_an_untrusted_server_fails_only_if_verified() {
    let nginx = Nginx::start();
    let https = |server_name: Option<&str>, verify| HttpProbe {
        tls: Some(TlsProbe { server_name: server_name.map(Into::into), verify }),
        body: Some(format!("sni={}.", server_name.unwrap_or_default())),
        ..http("/echo")
    };
    assert_eq!(nginx.check(nginx.secure(), https(None, false)), Ok(()));
    assert_eq!(nginx.check(nginx.secure(), https(Some("shop.test"), false)), Ok(()));
    let error = nginx.check(nginx.secure(), https(Some("shop.test"), true)).unwrap_err();
    assert!(error.starts_with("TLS: invalid peer certificate: "), "{error}");
    let error = nginx.check(nginx.plain(), https(None, false)).unwrap_err();
    assert!(error.starts_with("TLS: "), "{error}");
    let error = nginx.check(nginx.secure(), https(Some("not a name"), false)).unwrap_err();
    assert!(error.starts_with("local: server name \"not a name\": "), "{error}");
}

/// What changes a whole process (its trust store, its descriptor limit) is tested in one of its own.
#[test]
fn https_probe_of_a_trusted_server_and_probe_without_descriptors_in_a_process_of_its_own() {
    let nginx = Nginx::start();
    let out = nginx.ns.run(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "probes::own_process", "--ignored", "--nocapture"])
            .env("SSL_CERT_FILE", nginx.files.path().join("ca.pem"))
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap()
    });
    let text = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "started by the test above, in nginx's namespace"]
async fn own_process() {
    let check = async |name: Option<&str>| {
        let tls = Some(TlsProbe { server_name: name.map(Into::into), verify: true });
        let kind = ProbeKind::Http(HttpProbe { tls, ..http("/ok") });
        check(&probe(kind, Duration::from_secs(10)), LOOPBACK, 8443).await
    };
    assert_eq!(check(Some("shop.test")).await, Ok(()));
    for wrong in [Some("other.test"), None] {
        let error = check(wrong).await.unwrap_err();
        assert!(error.starts_with("TLS: invalid peer certificate: certificate not valid for name"), "{error}");
    }
    let none = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
    // SAFETY: the pointer is valid for the call; this process ends with the test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) }, 0);
    assert_eq!(check(Some("shop.test")).await, Err("local: no socket: too many open files".into()));
}

#[rstest]
#[case::nothing_at_all("", "waiting for the response")]
#[case::half_a_head("HTTP/1.1 200 OK\r\nContent-", "waiting for the response")]
#[case::half_a_body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", "reading the body")]
fn server_that_hangs_is_timed_out_with_the_step(#[case] answer: &'static str, #[case] step: &str) {
    let ns = Namespace::new();
    let (sender, hang) = std::sync::mpsc::channel::<()>();
    let to = server(&ns, move |mut stream| {
        read_request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        // Until the test ends.
        let _ = hang.recv();
    });
    let kind = ProbeKind::Http(HttpProbe { body: Some("ok".into()), ..http("/") });
    let result = run_for(&ns, kind, to, Duration::from_millis(400));
    assert_eq!(result, Err(format!("timed out after 400 ms ({step})")));
    drop(sender);
}

#[test]
fn server_that_drips_its_answer_gains_no_time() {
    let ns = Namespace::new();
    let to = server(&ns, |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        // Ends when the probe resets the connection.
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let started = Instant::now();
    let result = run_for(&ns, ProbeKind::Http(http("/")), to, Duration::from_millis(500));
    assert_eq!(result, Err("timed out after 500 ms (waiting for the response)".into()));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[rstest]
#[case::too_long_a_head(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "response headers exceed 16 KiB")]
#[case::no_answer(String::new(), "connection closed before the response was complete")]
#[case::half_a_head("HTTP/1.1 200 OK\r\nX:".to_owned(), "connection closed before the response was complete")]
#[case::another_protocol("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "not an HTTP/1.1 response")]
fn answer_that_is_no_answer_is_refused_with_the_reason(#[case] answer: String, #[case] expected: &str) {
    let ns = Namespace::new();
    let to = answering(&ns, answer);
    let error = run(&ns, ProbeKind::Http(http("/")), to).unwrap_err();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn server_that_speaks_first_is_no_http_server() {
    let ns = Namespace::new();
    let to = server(&ns, |mut stream| {
        stream.write_all(b"220 mail.test ESMTP\r\n").unwrap();
        read_request(&mut stream);
    });
    let error = run(&ns, ProbeKind::Http(http("/")), to).unwrap_err();
    let either = ["not an HTTP/1.1 response", "connection ended, or spoke, before the request was sent"];
    assert!(either.iter().any(|text| error.starts_with(text)), "{error}");
}

#[test]
fn body_is_searched_up_to_its_limit_and_no_further() {
    let ns = Namespace::new();
    for (before, result) in [((64 << 10) - 2, Ok(())), ((64 << 10) - 1, Err("body does not contain \"ok\"".to_owned()))]
    {
        let body = format!("{}ok{}", "x".repeat(before), "x".repeat(1 << 20));
        let to = answering(&ns, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let kind = ProbeKind::Http(HttpProbe { body: Some("ok".into()), ..http("/") });
        assert_eq!(run(&ns, kind, to), result, "{before} bytes before the text");
    }
}
