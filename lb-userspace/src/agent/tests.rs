//! The agent as its clients meet it: over real sockets, on this host's memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use tokio::task::JoinHandle;

use super::*;
use crate::config::memory::{MemoryKind, MemorySource};
use crate::control::schema::Headroom;
use crate::io::memory;

fn options() -> Options {
    Options { listen: "127.0.0.1:0".parse().unwrap(), allow: Vec::new(), token_file: None, cgroup: None }
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(options: Options, limits: Limits) -> Self {
        let agent = Agent::bind(options).await.unwrap();
        let (address, stop) = (agent.address(), CancellationToken::new());
        let router = routes::router(agent.state);
        let task = tokio::spawn(connections::serve(agent.listener, router, limits, stop.clone()));
        Self { address, stop, task }
    }

    /// Reads as a balancer does, and again if a busy machine did not answer within its second.
    async fn read(&self, token_file: Option<PathBuf>) -> Result<crate::core::memory::sample::Sample, String> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.read_once(token_file.clone()).await {
                Err(late) if late.starts_with("timed out") && Instant::now() < end => {}
                result => return result,
            }
        }
    }

    async fn read_once(&self, token_file: Option<PathBuf>) -> Result<crate::core::memory::sample::Sample, String> {
        let kind = MemoryKind::Agent { token_file };
        let source = MemorySource { kind, to: self.address, interval: Duration::from_secs(5) };
        memory::read(&source).await.map_err(|e| e.to_string())
    }

    /// Sends these bytes and reads until the agent closes; in a thread, so that the agent goes on.
    async fn exchange(&self, request: &str) -> String {
        let (address, request) = (self.address, request.to_owned());
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            // A reset ends the answer like a close.
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }
}

#[tokio::test]
async fn agent_tells_this_hosts_memory() {
    let running = Running::start(options(), Limits::AGENT).await;
    let sample = running.read(None).await.unwrap();
    let system = meminfo::parse(&std::fs::read_to_string("/proc/meminfo").unwrap()).unwrap();
    // In a container with a limit it may be less.
    assert!(sample.total_bytes <= system.total_bytes && sample.total_bytes > 1 << 20, "{sample:?}");
    assert!(sample.headroom() > 0.0 && sample.headroom() < 1.0, "{sample:?}");
}

#[tokio::test]
async fn metrics_pass_promtool_and_are_those_of_the_page() {
    let running = Running::start(options(), Limits::AGENT).await;
    let answer = running.exchange("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian package prometheus; cargo xtask setup installs it)");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}\n{text}", String::from_utf8_lossy(&out.stderr));
    let page = std::fs::read_to_string(crate::docs::root().join("docs/agent.md")).unwrap();
    let documented: Vec<&str> =
        page.lines().filter_map(|l| l.strip_prefix("| `rollcall_")?.split('`').next()).collect();
    let exported: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE rollcall_")?.split(' ').next()).collect();
    assert_eq!(documented, exported, "docs/agent.md (left) and agent::metrics (right)");
}

#[tokio::test]
async fn requests_without_the_token_are_refused_on_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let (right, wrong) = (file("right", "s3cret\n"), file("wrong", "s3creT\n"));
    let running = Running::start(Options { token_file: right.clone(), ..options() }, Limits::AGENT).await;
    running.read(right).await.unwrap();
    let refusal = "status 401: this agent asks for a token, and the right one is not there";
    assert_eq!(running.read(wrong).await.unwrap_err(), refusal);
    assert_eq!(running.read(None).await.unwrap_err(), refusal);
    for path in ["/metrics", "/", Headroom::PATH] {
        let answer = running.exchange(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
    }
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\nConnection: close\r\n\r\n";
    assert!(running.exchange(request).await.contains("rollcall_agent_refused_total{by=\"token\"} 5\n"));
}

#[rstest]
#[case("POST /v1/headroom HTTP/1.1\r\nContent-Length: 0\r\n", "405", "the agent answers GET, not POST")]
#[case("GET /v1/status HTTP/1.1\r\n", "404", "there is no /v1/status")]
#[case("GET /v1/headroom HTTP/1.1\r\nContent-Length: 1\r\n", "413", "requests to the agent have no body")]
#[case("GET /v1/headroom HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "413", "requests to the agent have no body")]
#[tokio::test]
async fn anything_but_a_plain_get_is_refused(#[case] request: &str, #[case] status: &str, #[case] why: &str) {
    let running = Running::start(options(), Limits { head: Duration::from_millis(300), ..Limits::AGENT }).await;
    let answer = running.exchange(&format!("{request}Host: x\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(why), "{answer}");
}

#[tokio::test]
async fn address_that_is_not_allowed_is_closed_before_it_can_ask() {
    let allow = |prefix: &str| vec![prefix.parse().unwrap()];
    let running = Running::start(Options { allow: allow("192.0.2.0/24"), ..options() }, Limits::AGENT).await;
    let error = running.read(None).await.unwrap_err();
    let either = ["connection reset by peer", "connection closed before", "connection ended, or spoke"];
    assert!(either.iter().any(|text| error.starts_with(text)), "{error}");
    let running = Running::start(Options { allow: allow("127.0.0.0/8"), ..options() }, Limits::AGENT).await;
    running.read(None).await.unwrap();
}

#[tokio::test]
async fn options_that_open_the_agent_to_all_or_make_no_sense_are_refused() {
    let code = async |options| Agent::bind(options).await.err().map(|e| (e.code, e.message));
    for listen in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let (code, _) = code(Options { listen: listen.parse().unwrap(), ..options() }).await.expect(listen);
        assert_eq!(code, ErrorCode::Usage, "{listen}");
    }
    let dir = tempfile::tempdir().unwrap();
    let missing = code(Options { token_file: Some(dir.path().join("none")), ..options() }).await.unwrap();
    assert_eq!(missing.0, ErrorCode::Config);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = code(Options { listen: taken.local_addr().unwrap(), ..options() }).await.unwrap();
    assert_eq!(taken.0, ErrorCode::System);
}

#[tokio::test]
async fn half_a_head_is_given_up_after_its_time_and_stop_waits_for_nobody() {
    let running = Running::start(options(), Limits { head: Duration::from_millis(300), ..Limits::AGENT }).await;
    let started = Instant::now();
    running.exchange("GET /v1/headroom HTTP/1.1\r\nHo").await;
    assert!(started.elapsed() < Duration::from_secs(10));
    let _idle = TcpStream::connect(running.address).unwrap();
    running.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_one_ends() {
    let limits = Limits { connections: 2, head: Duration::from_secs(30), ..Limits::AGENT };
    let running = Running::start(options(), limits).await;
    let idle = [(); 2].map(|()| TcpStream::connect(running.address).unwrap());
    assert_eq!(running.read_once(None).await.unwrap_err(), "timed out after 1 s (waiting for the response)");
    drop(idle);
    running.read(None).await.unwrap();
}

#[tokio::test]
async fn idle_connections_are_ended_so_that_others_are_answered() {
    let limits = Limits { connections: 4, head: Duration::from_millis(200), ..Limits::AGENT };
    let running = Running::start(options(), limits).await;
    let _idle: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    // Two generations of idle ones go first.
    running.read(None).await.unwrap();
}

#[tokio::test]
async fn connection_in_use_is_ended_after_its_life() {
    let limits = Limits { life: Duration::from_millis(500), ..Limits::AGENT };
    let running = Running::start(options(), limits).await;
    let address = running.address;
    let asking = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answers = 0;
        let end = Instant::now() + Duration::from_secs(20);
        let mut answer = [0; 4096];
        while stream.write_all(b"GET /v1/headroom HTTP/1.1\r\nHost: x\r\n\r\n").is_ok()
            && stream.read(&mut answer).is_ok_and(|n| n > 0)
        {
            assert!(Instant::now() < end, "it goes on for ever");
            answers += 1;
        }
        answers
    };
    assert!(tokio::task::spawn_blocking(asking).await.unwrap() > 1, "kept alive meanwhile");
}
