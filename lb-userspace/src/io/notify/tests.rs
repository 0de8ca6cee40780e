//! Receivers that do not behave.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::alert::Status;
use crate::config::model::{BackendName, HttpUrl, RouteName, ServiceName, Severity};

/// A backend is down.
pub(crate) fn message() -> Message {
    let time: jiff::Timestamp = "2026-03-01T11:56:00Z".parse().unwrap();
    Message {
        status: Status::Firing,
        key: "backend_down/web/b1".into(),
        condition: "backend_down".into(),
        severity: Severity::Warning,
        summary: "b1 in web is down: refused".into(),
        owner: Some("web team".into()),
        owner_fired: Some("web team".into()),
        service: ServiceName::new("web"),
        backend: BackendName::new("b1"),
        instance: "edge-1".into(),
        since: time,
        fired: time,
        ended: None,
        repeated: false,
        route: "hook".into(),
        labels: BTreeMap::from([("site".into(), "fra1".into())]),
        playbook: "docs/playbook.md#backend_down".into(),
    }
}

fn route(target: AlertTarget) -> AlertRoute {
    AlertRoute {
        name: RouteName::new("hook").unwrap(),
        target,
        severity: Severity::Info,
        after: Duration::ZERO,
        repeat: Duration::from_secs(60),
        labels: BTreeMap::new(),
    }
}

/// A webhook whose server does with each connection what `serve` says.
async fn webhook<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> AlertRoute
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    route(AlertTarget::Webhook(HttpUrl { tls: false, host: "127.0.0.1".into(), port, path: "/hook?a=1".into() }))
}

/// Reads a request's head and says `answer`.
async fn answer(mut stream: TcpStream, answer: &str) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test]
async fn webhook_gets_the_alert_as_json() {
    let (sender, mut received) = tokio::sync::mpsc::channel(1);
    let route = webhook(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut request = String::new();
            let mut part = [0; 4096];
            while !request.ends_with('}') {
                let length = stream.read(&mut part).await.unwrap();
                request += std::str::from_utf8(&part[..length]).unwrap();
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            sender.send(request).await.unwrap();
        }
    })
    .await;
    send(&route, &message()).await.unwrap();
    let request = received.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?a=1 HTTP/1.1\r\n"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["schema"], "rollcall.alert/v1");
    assert_eq!((&body["status"], &body["labels"]["site"]), (&"firing".into(), &"fra1".into()));
}

#[tokio::test]
async fn webhook_that_redirects_is_not_followed_and_one_that_refuses_is_quoted() {
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let route = webhook(move |stream| answer(stream, redirect)).await;
    let error = send(&route, &message()).await.unwrap_err();
    assert!(error.starts_with("answered with a redirect, which is not followed: 307"), "{error}");
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 15\r\n\r\nno\x1b[2J\r\n such t";
    let route = webhook(move |stream| answer(stream, refusal)).await;
    let error = send(&route, &message()).await.unwrap_err();
    assert_eq!(error, "refused it: 403 Forbidden no[2J such t");
}

#[tokio::test]
async fn webhook_that_floods_costs_a_few_bytes() {
    let flood = |head: &'static str| {
        webhook(move |mut stream| async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        })
    };
    for (head, wanted) in [
        ("HTTP/1.1 500 Broken\r\n\r\n", "refused it: 500 Internal Server Error xxx"),
        ("HTTP/1.1 200 OK\r\nX-Flood: ", "no answer: "),
    ] {
        let begun = Instant::now();
        let error = send(&flood(head).await, &message()).await.unwrap_err();
        assert!(error.starts_with(wanted) && error.len() < 300, "{error}");
        assert!(begun.elapsed() < EXCHANGE, "it was not the deadline that ended it");
    }
}

#[tokio::test]
async fn webhook_that_hangs_is_given_up_at_its_deadline() {
    let route = webhook(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!(send(&route, &message()).await.unwrap_err(), "not done within 5 s");
}

#[tokio::test]
async fn webhook_without_a_server_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
    drop(listener);
    let url = HttpUrl { tls: false, host: "127.0.0.1".into(), port, path: "/".into() };
    let error = send(&route(AlertTarget::Webhook(url)), &message()).await.unwrap_err();
    assert_eq!(error, format!("127.0.0.1:{port}: connection refused"));
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).into()
}

#[tokio::test]
async fn mail_is_given_to_the_program_with_its_recipients() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mail");
    let script = format!("printf '%s|' \"$@\" >{0}; cat >>{0}", file.display());
    let command = [shell(&script), vec!["sendmail".into()]].concat();
    send(&route(AlertTarget::Mail { to: vec!["root".into()], command }), &message()).await.unwrap();
    let mail = std::fs::read_to_string(file).unwrap();
    assert!(mail.starts_with("-i|--|root|Date: "), "{mail}");
}

#[tokio::test]
async fn command_that_fails_is_quoted_and_one_that_reads_nothing_is_no_trouble() {
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let run = |script: &str| {
        let route = route(AlertTarget::Command { command: shell(script), user: me.clone() });
        async move { send(&route, &message()).await }
    };
    assert_eq!(run("exec <&-; exit 0").await, Ok(()));
    let error = run("echo \"no   pager\" >&2; exit 3").await.unwrap_err();
    assert_eq!(error, "/bin/sh ended with exit status: 3: no pager");
    // A megabyte of complaints does not block it.
    let error = run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1").await.unwrap_err();
    assert!(error.len() < 300, "{error}");
    let nobody = AlertTarget::Command { command: shell("exit 0"), user: "no-such-user".into() };
    assert_eq!(send(&route(nobody), &message()).await.unwrap_err(), "there is no user no-such-user");
}

#[tokio::test]
async fn program_that_hangs_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = format!("sleep 1000 & echo $! >{0}; echo $$ >>{0}; wait", file.display());
    let run = async {
        let words = shell(&script);
        within(Duration::from_millis(500), command::run(&words, &[], None, b"{}")).await
    };
    let error = run.await.unwrap_err();
    assert!(error.starts_with("not done within"), "{error}");
    let pids = std::fs::read_to_string(&file).unwrap();
    let ends = Instant::now() + Duration::from_secs(10);
    for pid in pids.lines() {
        // A zombie that nobody has waited for yet is dead.
        let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "));
        while alive() {
            assert!(Instant::now() < ends, "{pid} still runs");
            tokio::task::yield_now().await;
        }
    }
}
