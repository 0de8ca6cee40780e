//! The heartbeat: while all is well, a URL elsewhere hears of it. Who watches there raises the alarm when it stops, also
//! where this host, its network or its alerts are what failed.
//!
//! It stops while `rollcall check` would be critical, and when the daemon's main task no longer publishes what it sees.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::clock;
use super::upkeep::Report;
use crate::config::model::{Heartbeat, HttpProbe, Probe, ProbeKind, TlsProbe};
use crate::control::daemon::View;
use crate::control::schema::{CheckState, Status};
use crate::control::verdict;
use crate::io::bpf::types::Counters;
use crate::io::probe;

/// How long one beat may take, with the look-up of its name.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks whether a heartbeat is configured.
const IDLE: Duration = Duration::from_secs(5);
/// The main task publishes at least each second; a picture older than this is a dead one's.
const STALE: Duration = Duration::from_secs(15);

/// Beats for as long as the daemon runs, as its newest configuration has it.
pub async fn beat(mut view: watch::Receiver<Arc<View>>, reports: mpsc::Sender<Report>) {
    loop {
        let begun = Instant::now();
        let seen = view.borrow().clone();
        let heartbeat = seen.config.heartbeat.clone();
        if heartbeat.as_ref().is_none_or(|_| is_well(&seen)) {
            let result = match &heartbeat {
                Some(heartbeat) => send(heartbeat).await,
                None => Ok(()),
            };
            if reports.send(Report::Heartbeat(result)).await.is_err() {
                return;
            }
        }
        if !wait(&mut view, begun).await {
            return;
        }
    }
}

/// Until the next beat is due, by the newest configuration: a shorter interval counts at once. Whether there is a daemon.
async fn wait(view: &mut watch::Receiver<Arc<View>>, begun: Instant) -> bool {
    loop {
        let interval = view.borrow_and_update().config.heartbeat.as_ref().map_or(IDLE, |heartbeat| heartbeat.interval);
        tokio::select! {
            () = sleep_until(begun + interval) => return true,
            changed = view.changed() => if changed.is_err() { return false },
        }
    }
}

/// Whether nothing is critical, by a picture that is not old.
fn is_well(view: &View) -> bool {
    let age = clock::now().boot_ms.saturating_sub(view.roll_call.time.boot_ms);
    let findings = verdict::findings(&Status::new(view, &Counters::default()));
    Duration::from_millis(age) < STALE && verdict::state(&findings) < CheckState::Critical
}

/// One beat: a GET, like a probe's, whose certificate is verified.
async fn send(heartbeat: &Heartbeat) -> Result<(), String> {
    let Heartbeat { url, host, port, .. } = heartbeat;
    let failed = |why: String| {
        format!(
            "the heartbeat to {url} does not arrive: {why}; it is tried again, and who watches it may raise the alarm"
        )
    };
    let beat = async {
        let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), *port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|e| format!("{host}: {e}"))?.collect();
        first_answer(heartbeat, &addresses).await
    };
    let late = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()));
    timeout(TIMEOUT, beat).await.unwrap_or_else(late).map_err(failed)
}

/// Asks one address after the other. One that does not answer must not take all the time from the next.
async fn first_answer(heartbeat: &Heartbeat, addresses: &[SocketAddr]) -> Result<(), String> {
    let share = TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1).max(2);
    let mut last = format!("{} has no address", heartbeat.host);
    for address in addresses {
        match timeout(share, probe::check(&request(heartbeat), address.ip(), address.port())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => last = why,
            Err(_) => last = format!("{address}: no answer within {} ms", share.as_millis()),
        }
    }
    Err(last)
}

fn request(heartbeat: &Heartbeat) -> Probe {
    let Heartbeat { host, port, path, is_https, .. } = heartbeat;
    let is_usual = *port == if *is_https { 443 } else { 80 };
    let http = HttpProbe {
        path: path.clone(),
        status: vec![200..=299],
        body: None,
        host: Some(if is_usual { host.clone() } else { format!("{host}:{port}") }),
        tls: is_https.then(|| TlsProbe { server_name: Some(host.trim_matches(['[', ']']).to_owned()), verify: true }),
    };
    Probe { kind: ProbeKind::Http(http), port: None, interval: TIMEOUT, timeout: TIMEOUT, rise: 1, fall: 1 }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::control::daemon::Topic;
    use crate::control::testing;

    fn to(port: u16) -> Heartbeat {
        Heartbeat {
            url: format!("http://127.0.0.1:{port}/ping/1"),
            is_https: false,
            host: "127.0.0.1".into(),
            port,
            path: "/ping/1".into(),
            interval: Duration::from_secs(1),
        }
    }

    /// Answers one request with `status`; returns what was asked.
    async fn answer(listener: TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    #[tokio::test]
    async fn beat_asks_for_the_path_and_takes_only_success_for_one() {
        for (status, arrives) in [("200 OK", true), ("404 Not Found", false), ("302 Found", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let heartbeat = to(port);
            let (asked, sent) = tokio::join!(answer(listener, status), send(&heartbeat));
            assert!(asked.starts_with("GET /ping/1 HTTP/1.1\r\n"), "{asked}");
            assert!(asked.to_lowercase().contains(&format!("host: 127.0.0.1:{port}\r\n")), "{asked}");
            assert_eq!(sent.is_ok(), arrives, "{status}: {sent:?}");
            let why = sent.err().unwrap_or_default();
            assert!(arrives || why.contains("/ping/1 does not arrive: status "), "{why}");
        }
    }

    #[tokio::test]
    async fn beat_goes_to_the_next_address_if_one_is_silent() {
        // Accepts, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent.local_addr().unwrap(), listener.local_addr().unwrap()];
        let heartbeat = to(addresses[1].port());
        let (_, sent) =
            tokio::join!(answer(listener, "200 OK"), timeout(TIMEOUT, first_answer(&heartbeat, &addresses)));
        assert_eq!(sent, Ok(Ok(())));
    }

    #[tokio::test]
    async fn interval_that_becomes_shorter_counts_at_once() {
        let with = |interval| {
            let mut view = testing::view();
            let mut config = (*view.config).clone();
            config.heartbeat = Some(Heartbeat { interval, ..to(1) });
            view.config = Arc::new(config);
            Arc::new(view)
        };
        let (publisher, mut view) = watch::channel(with(Duration::from_secs(3600)));
        let change = async {
            tokio::task::yield_now().await;
            publisher.send_replace(with(Duration::from_millis(10)));
            std::future::pending::<()>().await;
        };
        let waited = async {
            tokio::select! { there = wait(&mut view, Instant::now()) => there, () = change => false }
        };
        assert_eq!(timeout(TIMEOUT, waited).await, Ok(true));
    }

    #[test]
    fn picture_that_is_old_or_critical_is_not_well() {
        let now = clock::now();
        let view = |age_ms: u64| {
            let mut view = testing::view();
            view.roll_call.time = now;
            view.roll_call.time.boot_ms = now.boot_ms.saturating_sub(age_ms);
            let members = view.roll_call.services.iter_mut().flat_map(|s| &mut s.members);
            members.flat_map(|m| &mut m.reasons).for_each(|reason| reason.review_at = Some(now + TIMEOUT));
            view
        };
        assert!(is_well(&view(0)), "somebody is out, but within the time");
        assert!(!is_well(&view(20_000)));
        let mut critical = view(0);
        critical.warnings.iter_mut().for_each(|warning| warning.topic = Topic::Apply);
        assert!(!is_well(&critical));
    }
}
