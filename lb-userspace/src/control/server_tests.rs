//! The server over a real unix socket, with a daemon that only notes what it is asked. What a real daemon does with it
//! is tested in namespaces.

use std::net::SocketAddr;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::daemon::{AlertAck, AlertTest, Edit, ErrorCode};
use super::listen::PerListener;
use super::schema::{
    Alerts, AlertsAck, AlertsTest, Applied, AuditReport, Backends, ConfigFile, Events, Failure, Flows, Report,
    Services, Stats, Status, Stopping,
};
use super::testing::FakeDaemon;
use super::{EventParams, FlowParams, MAX_REQUEST_BYTES, bind};
use crate::config::model::{BackendName, RouteName};
use crate::core::capacity::Consent;
use crate::io::journal::EventQuery;

pub(super) struct Running {
    _dir: tempfile::TempDir,
    pub(super) socket: PathBuf,
    pub(super) metrics: SocketAddr,
    daemon: FakeDaemon,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

async fn start() -> Running {
    start_within(|_| {}).await
}

/// With other limits.
pub(super) async fn start_within(change: impl FnOnce(&mut PerListener)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let mut listeners = bind(&socket, Some("127.0.0.1:0".parse().unwrap())).await.unwrap();
    change(&mut listeners.limits);
    let metrics = listeners.metrics_address().unwrap();
    let (daemon, stop) = (FakeDaemon::default(), CancellationToken::new());
    let task = tokio::spawn(listeners.serve(daemon.clone(), stop.clone()));
    Running { _dir: dir, socket, metrics, daemon, stop, task }
}

impl Running {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// A raw request over the control socket: status and body.
    async fn raw(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
        request(UnixStream::connect(&self.socket).await.unwrap(), method, path, body.into()).await
    }

    pub(super) async fn over_tcp(&self, method: &str, path: &str) -> (u16, Bytes) {
        request(TcpStream::connect(self.metrics).await.unwrap(), method, path, Bytes::new()).await
    }
}

async fn request<S>(stream: S, method: &str, path: &str, body: Bytes) -> (u16, Bytes)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "test").body(Full::new(body));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
}

/// The body of a failed request must be the documented document, with a class.
pub(super) fn failure(body: &[u8]) -> Failure {
    let value: Value = serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {body:?}"));
    assert_eq!(value["schema"], "rollcall.error/v1");
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn every_read_path_answers_with_its_document() {
    let running = start().await;
    let client = running.client();
    assert_eq!(client.get::<Status>("/v1/status").await.unwrap().services.len(), 2);
    assert_eq!(client.get::<Backends>("/v1/backends").await.unwrap().backends.len(), 4);
    assert_eq!(client.get::<Services>("/v1/services").await.unwrap().services.len(), 2);
    assert_eq!(client.get::<Stats>("/v1/stats").await.unwrap().services[0].backends.len(), 3);
    assert!(client.get::<Flows>("/v1/flows").await.unwrap().more);
    assert_eq!(client.get::<Events>("/v1/events").await.unwrap().events.len(), 4);
    let report = client.get::<Report>("/v1/report?since=2026-03-01T11:00:00Z").await.unwrap();
    assert_eq!(report.since.to_string(), "2026-03-01T11:00:00Z");
    assert!(client.get::<ConfigFile>("/v1/config").await.unwrap().text.starts_with("# as applied"));
    assert_eq!(client.get::<Alerts>("/v1/alerts").await.unwrap().firing.len(), 1);
    let (status, metrics) = running.raw("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.starts_with(b"# HELP"));
}

#[tokio::test]
async fn edit_reaches_the_daemon_as_it_was_sent_with_the_peers_uid() {
    let running = start().await;
    let edit = Edit::SetBackend {
        name: BackendName::new("web-02").unwrap(),
        service: None,
        weight: std::num::NonZeroU16::new(3),
        port: None,
        owner: None,
        consent: Consent::sure(),
    };
    let applied: Applied = running.client().post_json("/v1/edit", &edit).await.unwrap();
    assert_eq!(applied.revision, 12);
    let asked = running.daemon.0.lock().unwrap();
    assert_eq!(asked.edits.len(), 1);
    assert_eq!(asked.edits[0].0, edit);
    assert_eq!(asked.edits[0].1.uid, nix::unistd::geteuid().as_raw());
}

#[tokio::test]
async fn daemons_error_reaches_the_client_with_code_and_hint() {
    let running = start().await;
    let error = running.client().post::<Applied>("/v1/reload").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Config);
    assert_eq!(error.message, "rollcall.toml:3:7: port 0");
    assert_eq!(error.hint.as_deref(), Some("use 1 to 65535"));
}

#[tokio::test]
async fn audit_reads_by_get_and_repairs_by_post() {
    let running = start().await;
    let asked = |verb| running.daemon.0.lock().unwrap().verbs.contains(verb);
    assert_eq!(running.client().get::<AuditReport>("/v1/audit").await.unwrap(), super::testing::audit());
    assert!(asked("audit") && !asked("repair"));
    running.client().post::<AuditReport>("/v1/audit").await.unwrap();
    assert!(asked("repair"));
}

#[tokio::test]
async fn down_reaches_the_daemon() {
    let running = start().await;
    assert!(running.client().post::<Stopping>("/v1/down").await.unwrap().by_daemon);
    assert!(running.daemon.0.lock().unwrap().verbs.contains("down"));
}

#[tokio::test]
async fn test_alert_reaches_the_daemon_with_its_route_and_no_other_request_does() {
    let running = start().await;
    let route = RouteName::new("oncall");
    let done: AlertsTest =
        running.client().post_json("/v1/alerts/test", &AlertTest { route: route.clone() }).await.unwrap();
    assert_eq!(done.results.iter().map(|r| r.delivered).collect::<Vec<_>>(), [true, false]);
    let (status, _) = running.raw("POST", "/v1/alerts/test", r#"{"rout":"oncall"}"#).await;
    assert_eq!((status, &running.daemon.0.lock().unwrap().tests), (400, &vec![route]));
}

#[tokio::test]
async fn acknowledgement_reaches_the_daemon_as_it_was_sent() {
    let running = start().await;
    let ack = AlertAck {
        alert: "backend_down".into(),
        for_ms: 60_000,
        note: Some("on it".into()),
        owner: Some("ada".into()),
    };
    let done: AlertsAck = running.client().post_json("/v1/alerts/ack", &ack).await.unwrap();
    assert_eq!(done.alert.acknowledged.map(|ack| ack.by).as_deref(), Some("ada"));
    let (status, _) = running.raw("POST", "/v1/alerts/ack", r#"{"alert":"backend_down"}"#).await;
    assert_eq!((status, &running.daemon.0.lock().unwrap().acks), (400, &vec![ack]));
}

#[tokio::test]
async fn bad_edits_are_usage_errors_and_reach_no_daemon() {
    let running = start().await;
    for body in [
        "",
        "{",
        "[]",
        r#"{"verb":"fly"}"#,
        r#"{"verb":"set_backend"}"#,
        r#"{"verb":"set_backend","name":"a b"}"#,
        r#"{"verb":"set_backend","name":"a","wieght":2}"#,
    ] {
        let (status, answer) = running.raw("POST", "/v1/edit", body).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(failure(&answer).code, ErrorCode::Usage, "{body}");
    }
    assert!(running.daemon.0.lock().unwrap().edits.is_empty());
}

#[tokio::test]
async fn body_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let running = start().await;
    let (status, answer) = running.raw("POST", "/v1/edit", vec![b' '; MAX_REQUEST_BYTES + 1]).await;
    assert_eq!(status, 413);
    assert_eq!(failure(&answer).code, ErrorCode::Usage);
    let mut edit = br#"{"verb":"remove_backend","name":"web-02","service":null}"#.to_vec();
    edit.resize(MAX_REQUEST_BYTES, b' ');
    let (status, _) = running.raw("POST", "/v1/edit", edit).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn unknown_path_and_wrong_method_answer_with_json_errors() {
    let running = start().await;
    let (status, body) = running.raw("GET", "/v2/status", "").await;
    assert_eq!((status, failure(&body).code), (404, ErrorCode::NotFound));
    let (status, body) = running.raw("GET", "/v1/reload", "").await;
    assert_eq!((status, failure(&body).code), (405, ErrorCode::Usage));
    assert!(running.daemon.0.lock().unwrap().verbs.is_empty());
}

#[tokio::test]
async fn flow_query_is_checked_before_the_daemon_walks_its_maps() {
    let running = start().await;
    for (query, status, code) in [
        ("service=nope", 404, ErrorCode::NotFound),
        ("backend=nope", 404, ErrorCode::NotFound),
        ("phase=asleep", 400, ErrorCode::Usage),
        ("client=not-an-address", 400, ErrorCode::Usage),
        ("limit=0", 400, ErrorCode::Usage),
        ("limit=10001", 400, ErrorCode::Usage),
        ("colour=red", 400, ErrorCode::Usage),
    ] {
        let (got, body) = running.raw("GET", &format!("/v1/flows?{query}"), "").await;
        assert_eq!((got, failure(&body).code), (status, code), "{query}");
    }
    assert!(running.daemon.0.lock().unwrap().queries.is_empty());
    let params = FlowParams {
        service: Some("www".into()),
        backend: Some("web-01".into()),
        client: Some("2001:db8::7".parse().unwrap()),
        phase: Some("closing".into()),
        limit: Some(5),
    };
    running.client().get::<Flows>(&params.path()).await.unwrap();
    running.raw("GET", "/v1/flows?client=::ffff:198.51.100.7", "").await;
    let asked = running.daemon.0.lock().unwrap();
    let query = &asked.queries[0];
    assert_eq!(query.service.as_ref().unwrap().as_str(), "www");
    assert_eq!(query.backend.as_ref().unwrap().as_str(), "web-01");
    assert_eq!((query.limit, query.phase.as_deref()), (5, Some("closing")));
    assert_eq!(query.client, Some("2001:db8::7".parse().unwrap()));
    assert_eq!(asked.queries[1].client, Some("198.51.100.7".parse().unwrap()));
}

#[tokio::test]
async fn tcp_listener_serves_metrics_to_get_and_nothing_else() {
    let running = start().await;
    assert_eq!(running.over_tcp("GET", "/metrics").await.0, 200);
    assert_eq!(running.over_tcp("POST", "/metrics").await.0, 405);
    for path in ["/v1/status", "/v1/config", "/"] {
        assert_eq!(running.over_tcp("GET", path).await.0, 404, "{path}");
    }
    assert_eq!(running.over_tcp("POST", "/v1/down").await.0, 404);
    assert!(running.daemon.0.lock().unwrap().verbs.is_empty());
}

#[tokio::test]
async fn stop_ends_the_server_and_removes_the_socket() {
    let running = start().await;
    running.client().get::<Status>("/v1/status").await.unwrap();
    running.stop.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(10), running.task).await.unwrap().unwrap();
    assert!(!running.socket.exists());
    let error = Client::new(&running.socket).get::<Status>("/v1/status").await.unwrap_err();
    assert_eq!((error.code, error.code.exit_code()), (ErrorCode::Unavailable, 69));
    assert!(error.message.contains("not running"), "{}", error.message);
    assert!(error.message.contains(running.socket.to_str().unwrap()), "{}", error.message);
}

#[tokio::test]
async fn socket_is_deserted_only_if_nobody_listens() {
    let running = start().await;
    assert!(!running.client().is_deserted().await);
    let stale = running.socket.with_file_name("stale.sock");
    let silent = std::os::unix::net::UnixListener::bind(&stale).unwrap();
    assert!(!Client::new(&stale).is_deserted().await, "a daemon that is slow to accept is taken for none");
    drop(silent);
    assert!(Client::new(&stale).is_deserted().await);
    assert!(Client::new(running.socket.with_file_name("none.sock")).is_deserted().await);
}

#[tokio::test]
async fn client_does_not_swallow_an_answer_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("endless.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000000000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(&[b' '; 1 << 16]).await.is_ok() {}
    });
    let error = Client::new(&socket).get::<Status>("/v1/status").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::System);
    assert!(error.message.contains("more than 67108864 bytes"), "{}", error.message);
}

#[tokio::test]
async fn client_at_a_socket_of_something_else_says_so() {
    let running = start().await;
    let error = running.client().get::<Status>("/v1/stats").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::System);
    assert!(error.message.contains("rollcall.stats/v1"), "{}", error.message);
}

#[tokio::test]
async fn event_query_is_checked_and_arrives_as_it_was_asked() {
    let running = start().await;
    for query in ["limit=0", "limit=10001", "backend=a%20b", "since=yesterday", "colour=red"] {
        let (status, body) = running.raw("GET", &format!("/v1/events?{query}"), "").await;
        assert_eq!((status, failure(&body).code), (400, ErrorCode::Usage), "{query}");
    }
    let (status, body) =
        running.raw("GET", "/v1/report?since=2026-03-01T11:00:00Z&until=2026-03-01T11:00:00Z", "").await;
    assert_eq!((status, failure(&body).code), (400, ErrorCode::Usage));
    assert!(running.daemon.0.lock().unwrap().histories.is_empty());
    let params = EventParams {
        since: Some("2026-03-01T11:00:00.5Z".parse().unwrap()),
        until: None,
        backend: Some("gone-04".into()),
        service: Some("www".into()),
        after: Some(7),
        limit: Some(5),
    };
    running.client().get::<Events>(&params.path()).await.unwrap();
    let expected = EventQuery {
        since_ms: Some(1_772_362_800_500),
        until_ms: None,
        backend: Some("gone-04".into()),
        service: Some("www".into()),
        after: Some(7),
        limit: 5,
    };
    assert_eq!(running.daemon.0.lock().unwrap().histories, [expected]);
}
