//! `rollcall status`: the verdict, what people should know, then every member of every service.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::output::{Paint, Tone};
use super::table::{Cell, Table, wrap};
use super::{Context, Outcome, alert, frozen, lease, risk, words};
use crate::config::model::{ServiceName, Tier};
use crate::control::schema::{BackendStatus, MemoryStatus, ReasonStatus, ServiceStatus, Status};
use crate::core::api::Health;
use crate::core::reason::ReasonKind;
use crate::daemon::absence;
use crate::daemon::frozen::Left;

/// Backends that the first line names; the tables have all.
const OUTS: usize = 5;
/// Acknowledged alerts that are named; `rollcall alert list` has all.
const ACKS: usize = 3;

pub(super) async fn run(context: &Context) -> Outcome {
    let left = |left: &Left| Status::new(&left.view, &left.counters).with_alerts(&absence::board(&context.config));
    frozen::show(context, "/v1/status", left, render).await
}

/// The verdict on all, worst first: no daemon, then a suspected edge, then who is out.
pub(super) fn first_line(status: &Status) -> (Tone, String) {
    let alarms = [frozen::in_words(status), suspicion(status), panic(status), backups(status)];
    let alarms: Vec<String> = alarms.into_iter().flatten().collect();
    let (tone, mut line) = verdict(status);
    if status.nobody_told {
        line += "; no alert route, so nobody is told";
    }
    if alarms.is_empty() { (tone, line) } else { (Tone::Bad, format!("{}; {line}", alarms.join("; "))) }
}

fn render(status: &Status, paint: Paint) -> String {
    let (tone, line) = first_line(status);
    let mut out = paint.text(tone, &prose(&line, paint)) + "\n";
    for warning in warnings(status) {
        let text = prose(&format!("warning: {warning}"), paint);
        let (word, rest) = text.split_at("warning:".len());
        out += &format!("{}{rest}\n", paint.text(Tone::Warn, word));
    }
    if let Some(line) = alerts(status) {
        out += &(prose(&line, paint) + "\n");
    }
    for s in &status.services {
        out.push('\n');
        out += &service(s, status.time, paint);
    }
    if !status.unused_backends.is_empty() {
        let names: Vec<_> = status.unused_backends.iter().map(|b| b.as_str()).collect();
        out += &format!("\nin no service: {}\n", names.join(", "));
    }
    out.push('\n');
    out += &paint.text(Tone::Dim, &footer(status));
    out.push('\n');
    out
}

/// A sentence, broken between words where the terminal would break it anywhere.
fn prose(text: &str, paint: Paint) -> String {
    paint.width.map_or_else(|| text.to_owned(), |width| wrap(text, width.saturating_sub(2)).join("\n  "))
}

/// `EDGE SUSPECTED for 40 s in web, dns, 4 backends held although down`: what is in rotation then says little.
fn suspicion(status: &Status) -> Option<String> {
    let since = status.suspicions.iter().map(|s| s.since).min()?;
    let services: Vec<&str> = status.suspicions.iter().map(|s| s.service.as_str()).collect();
    let suspected = status.services.iter().filter(|s| services.contains(&s.name.as_str()));
    let held = suspected.flat_map(|s| &s.backends).filter(|b| b.in_rotation && b.health == Health::Down);
    let held: std::collections::BTreeSet<&str> = held.map(|b| b.backend.as_str()).collect();
    let since = words::since(since, status.time);
    Some(format!("EDGE SUSPECTED for {since} in {}, {} held although down", services.join(", "), held.len()))
}

/// `PANIC for 40 s in web: all in rotation although down`.
fn panic(status: &Status) -> Option<String> {
    let (since, services) = standing(status, |s| s.panic_since)?;
    Some(format!("PANIC for {since} in {services}: all in rotation although down"))
}

/// `BACKUP IN USE for 40 s in web`: no primary serves there.
fn backups(status: &Status) -> Option<String> {
    let (since, services) = standing(status, |s| s.backup_in_use_since)?;
    Some(format!("BACKUP IN USE for {since} in {services}"))
}

/// For how long something has stood in the service where it began first, and all services where it stands.
fn standing(status: &Status, since: impl Fn(&ServiceStatus) -> Option<Timestamp>) -> Option<(String, String)> {
    let first = status.services.iter().filter_map(&since).min()?;
    let names: Vec<&str> = status.services.iter().filter(|s| since(s).is_some()).map(|s| s.name.as_str()).collect();
    Some((words::since(first, status.time), names.join(", ")))
}

/// A backend's places: services, and what it is there.
type Places<'a> = BTreeMap<&'a str, Vec<(&'a ServiceStatus, &'a BackendStatus)>>;

/// Backends by name with all their places.
fn places(status: &Status) -> Places<'_> {
    let mut backends = Places::new();
    for s in &status.services {
        for b in &s.backends {
            backends.entry(b.backend.as_str()).or_default().push((s, b));
        }
    }
    backends
}

/// How many backends there should be in rotation, and who of them is out, in words. A backend is in rotation if it is in
/// every service that it is a member of, apart from those where it stands by.
pub(super) fn outs(status: &Status) -> (usize, Vec<String>) {
    let backends = places(status);
    let mut names: BTreeSet<&str> =
        (backends.iter()).filter(|(_, places)| !places.iter().all(|(_, b)| b.standby)).map(|(name, _)| *name).collect();
    names.extend(status.removed.iter().map(|r| r.backend.as_str()));
    let total = names.len();
    let outs: Vec<String> = (names.into_iter())
        .filter_map(|name| {
            let gone = removed_in_words(status, name);
            let out = backends.get(name).and_then(|places| out_in_words(status, name, places));
            let words: Vec<String> = gone.into_iter().chain(out).collect();
            (!words.is_empty()).then(|| words.join(", "))
        })
        .collect();
    (total, outs)
}

/// One line about all backends.
fn verdict(status: &Status) -> (Tone, String) {
    let (total, outs) = outs(status);
    let backends = places(status);
    let is_unverified = |b: &BackendStatus| b.reasons.iter().any(|r| r.kind == ReasonKind::Unverified);
    let unverified = backends.values().filter(|places| places.iter().any(|(_, b)| is_unverified(b))).count();
    let doubt = if unverified > 0 { format!(" ({unverified} unverified)") } else { String::new() };
    let standby = backends.values().filter(|places| places.iter().all(|(_, b)| b.standby)).count();
    let doubt = if standby > 0 { format!("{doubt}, {standby} standing by") } else { doubt };
    match (total, outs.len()) {
        (0, _) if !status.unused_backends.is_empty() => (Tone::Warn, "no service has a backend".to_owned()),
        (0, _) => (Tone::Warn, "no backends are configured".to_owned()),
        (1, 0) => {
            (if unverified > 0 { Tone::Warn } else { Tone::Good }, format!("the only backend is in rotation{doubt}"))
        }
        (n, 0) => {
            (if unverified > 0 { Tone::Warn } else { Tone::Good }, format!("all {n} backends in rotation{doubt}"))
        }
        (n, out) => {
            let more = if out > OUTS { format!("; and {} more", out - OUTS) } else { String::new() };
            let outs = outs[..out.min(OUTS)].join("; ");
            (Tone::Bad, format!("{} of {n} in rotation{doubt}: {outs}{more}", n - out))
        }
    }
}

/// `web-02 out for 4 m: probe failed: connection refused (owner web team)`; the services are named where it is still in
/// rotation elsewhere.
fn out_in_words(status: &Status, name: &str, places: &[(&ServiceStatus, &BackendStatus)]) -> Option<String> {
    let now = status.time;
    let out: Vec<_> = places.iter().filter(|(_, b)| !b.in_rotation && !b.standby).collect();
    let (_, first) = out.iter().min_by_key(|(_, b)| b.since)?;
    let of = if out.len() < places.len() {
        format!(" of {}", out.iter().map(|(s, _)| s.name.as_str()).collect::<Vec<_>>().join(", "))
    } else {
        String::new()
    };
    let leased = status.leases.iter().find(|l| {
        let covers = |s: &ServiceStatus| l.service.as_ref().is_none_or(|name| *name == s.name);
        l.backend.as_str() == name && out.iter().any(|(s, _)| covers(s))
    });
    if let Some(lease) = leased {
        return Some(lease::in_words(lease, now));
    }
    let why = match first.reasons.first() {
        Some(r) => format!("{}: {}", words::reason(r.kind), r.cause),
        None if !status.daemon.running => return Some(format!("{name} out{of}, why is not known without the daemon")),
        None => "NO REASON KNOWN".to_owned(),
    };
    let owner = (first.reasons.first().and_then(|r| r.owner.as_deref())).or(first.owner.as_deref());
    let owner = owner.map(|o| format!(" (owner {o})")).unwrap_or_default();
    Some(format!("{name} out{of} for {}: {why}{owner}", words::since(first.since, now)))
}

/// `web-02 REMOVED from web 4 m ago by ada (reload) and not back (owner web team)`.
fn removed_in_words(status: &Status, name: &str) -> Option<String> {
    let all: Vec<_> = status.removed.iter().filter(|r| r.backend.as_str() == name).collect();
    let first = all.iter().min_by_key(|r| r.since)?;
    let services: Vec<&str> = all.iter().filter_map(|r| r.service.as_ref()).map(|s| s.as_str()).collect();
    let of = if services.is_empty() { String::new() } else { format!(" from {}", services.join(", ")) };
    let owner = first.owner.as_ref().map(|o| format!(" (owner {o})")).unwrap_or_default();
    let since = words::since(first.since, status.time);
    Some(format!("{name} REMOVED{of} {since} ago by {} ({}) and not back{owner}", first.by, first.how))
}

fn warnings(status: &Status) -> Vec<String> {
    let mut all = status.warnings.clone();
    for s in status.services.iter().filter(|s| s.in_rotation == 0) {
        all.push(format!("{}: no backend in rotation; new connections are dropped", s.name));
    }
    for suspicion in &status.suspicions {
        all.push(format!(
            "service {}: {}, so this host is suspected and the table is held as it was; check this host's own network",
            suspicion.service, suspicion.cause
        ));
    }
    let has = |name: &ServiceName| status.services.iter().any(|s| s.name == *name);
    for lease in status.leases.iter().filter(|l| l.service.as_ref().is_some_and(|name| !has(name))) {
        all.push(format!("{}: but there is no such service, so it covers nobody", lease::in_words(lease, status.time)));
    }
    if !status.settled {
        all.push("the kernel does not hold all that was decided yet".into());
    }
    if status.daemon.file_differs {
        all.push(format!("{} differs from what runs; `rollcall reload` applies it", status.daemon.config_path));
    }
    all
}

/// `alerts: 2 firing; acknowledged: backend_down/web/web-02 by ada, 40 m left`; `None` if none fires.
fn alerts(status: &Status) -> Option<String> {
    if status.alerts.is_empty() {
        return None;
    }
    let acks: Vec<String> = (status.alerts.iter())
        .filter_map(|a| Some(format!("{} by {}", a.key, alert::ack_in_words(a.acknowledged.as_ref()?, status.time))))
        .collect();
    let shown = acks.iter().take(ACKS).cloned().collect::<Vec<_>>().join("; ");
    let acks = match acks.len() {
        0 => ", nobody has acknowledged any".to_owned(),
        n if n > ACKS => format!("; acknowledged: {shown}; and {} more", n - ACKS),
        _ => format!("; acknowledged: {shown}"),
    };
    Some(format!("alerts: {} firing{acks}; see rollcall alert list", status.alerts.len()))
}

/// A service's heading and table.
pub(super) fn service(service: &ServiceStatus, now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new([
        "BACKEND",
        "TIER",
        "ADDRESS",
        "ROTATION",
        "HEALTH",
        "MEMORY",
        "WEIGHT",
        ">SHARE",
        ">SEEN",
        ">ACTIVE",
        ">OPENED",
        "LAST PROBE",
        "REASON",
    ])
    .narrow(Some("REASON"), &["LAST PROBE", "OPENED", "WEIGHT", "ADDRESS", "HEALTH", "SEEN", "ACTIVE"]);
    for b in &service.backends {
        table.row(row(b, now));
    }
    table.leave_out_if_empty("MEMORY");
    table.leave_out_if_empty("TIER");
    table.leave_out_if_empty("SEEN");
    let heading = format!("{}  {}", service.name, listener(service));
    let owner = service.owner.as_ref().map(|o| format!("  owner {o}")).unwrap_or_default();
    let capacity: String = capacity(service, now)
        .into_iter()
        .map(|(tone, line)| format!("  {}\n", paint.text(tone, &prose(&line, paint))))
        .collect();
    format!("{}{owner}\n{}{capacity}", paint.text(Tone::Bold, &heading), table.render(2, paint))
}

/// What is to be said of a service's capacity: N-1, and leases that the others can no longer carry.
fn capacity(service: &ServiceStatus, now: Timestamp) -> Vec<(Tone, String)> {
    let n_minus_1 = service.n_minus_1.as_ref().map(|n| {
        let (tone, verdict) = match n.verdict.as_str() {
            "fits" => (Tone::Dim, "met".to_owned()),
            "does_not_fit" => (Tone::Bad, format!("NOT met for {}", words::since(n.since, now))),
            _ => (Tone::Dim, "cannot be told".to_owned()),
        };
        let accepted = n
            .accepted
            .as_ref()
            .map(|r| format!(" (accepted by {}, {} left: {})", risk::owner(r), words::since(now, r.ends), r.reason));
        let tone = if accepted.is_some() && tone == Tone::Bad { Tone::Warn } else { tone };
        (tone, format!("N-1 {verdict}: {}{}", n.evidence, accepted.unwrap_or_default()))
    });
    let outgrown = service.outgrown.as_ref().map(|o| {
        let since = words::since(o.since, now);
        (Tone::Bad, format!("the others cannot carry the load of {} for {since}: {}", o.backend, o.evidence))
    });
    n_minus_1.into_iter().chain(outgrown).collect()
}

/// `192.0.2.10:80/tcp maglev`, and the mode if it is not `nat`.
pub(super) fn listener(service: &ServiceStatus) -> String {
    let protocol = match service.listen.protocol {
        crate::config::model::Protocol::Tcp => "tcp",
        crate::config::model::Protocol::Udp => "udp",
    };
    let algorithm = service.algorithm.name();
    let address = std::net::SocketAddr::new(service.listen.address, service.listen.port);
    let mode = match service.mode {
        crate::config::model::Mode::Nat => String::new(),
        mode => format!(" {}", mode.name()),
    };
    format!("{address}/{protocol} {algorithm}{mode}")
}

fn row(b: &BackendStatus, now: Timestamp) -> Vec<Cell> {
    let since = words::since(b.since, now);
    let rotation = match (b.in_rotation, b.standby) {
        (true, _) => (Tone::Good, format!("in {since}")),
        (false, true) => (Tone::Plain, format!("standby {since}")),
        (false, false) => (Tone::Bad, format!("OUT {since}")),
    };
    let tier = if b.tier == Tier::Backup { "backup" } else { "" };
    let health = match b.health {
        Health::Up => (Tone::Good, "up"),
        Health::Down => (Tone::Bad, "down"),
        Health::Unknown => (Tone::Warn, "unknown"),
    };
    let memory = b.memory.as_ref().map(memory);
    let configured = f64::from(b.weight_configured);
    let weight = if b.weight_effective == configured {
        words::weight(configured)
    } else {
        format!("{}→{}", words::weight(configured), words::weight(b.weight_effective))
    };
    let probe = match &b.last_probe {
        None => "none".to_owned(),
        Some(p) => format!("{} ago, {}", words::since(p.time, now), words::duration_ms(p.duration_ms)),
    };
    let on_leave = b.reasons.iter().any(|r| r.kind.is_lease());
    let mut reasons: Vec<_> = b.reasons.iter().map(|r| reason(r, now, on_leave && !r.kind.is_lease())).collect();
    if on_leave {
        reasons.push(match (b.flows_active, b.empty_since) {
            (0, Some(since)) => format!("no flow for {}", words::since(since, now)),
            (1, _) => "1 flow left".to_owned(),
            (left, _) => format!("{left} flows left"),
        });
    }
    vec![
        b.backend.as_str().into(),
        tier.into(),
        std::net::SocketAddr::new(b.address, b.port).into(),
        Cell::new(rotation.0, rotation.1),
        Cell::new(health.0, health.1),
        memory.map_or_else(|| "".into(), |(tone, text)| Cell::new(tone, text)),
        weight.into(),
        percent(b.share).into(),
        b.observed.and_then(|o| o.share_flows).map(percent).unwrap_or_default().into(),
        b.flows_active.into(),
        b.flows_opened.into(),
        Cell::new(Tone::Dim, probe),
        Cell::new(reasons_tone(b), reasons.join("; ")),
    ]
}

fn reasons_tone(b: &BackendStatus) -> Tone {
    match (b.in_rotation, b.standby) {
        (true, _) => Tone::Warn,
        (false, true) => Tone::Dim,
        (false, false) => Tone::Bad,
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `62 % free`, `tight, 12 % free`, `unknown`; and when it ends, if that is foretold within the day.
fn memory(m: &MemoryStatus) -> (Tone, String) {
    let free = m.headroom.map(|h| format!("{:.0} % free", h * 100.0));
    let (tone, text) = match (m.state.as_str(), free) {
        ("ample", Some(free)) => (Tone::Good, free),
        (state @ ("tight" | "exhausted"), Some(free)) => (Tone::Bad, format!("{state}, {free}")),
        (state, _) => (Tone::Warn, state.to_owned()),
    };
    match m.exhausted_in_s.filter(|s| *s < 86_400) {
        Some(s) => (Tone::Bad, format!("{text}, ends in {}", words::span_ms(i64::try_from(s).unwrap_or(0) * 1000))),
        None => (tone, text),
    }
}

/// `probe failed 4 m: connection refused (owner web team), review in 6 m`, or that it stands longer than it should, unless
/// it is excused; of a lease, how long it lasts.
fn reason(r: &ReasonStatus, now: Timestamp, excused: bool) -> String {
    let owner = r.owner.as_ref().map(|o| format!(" (owner {o})")).unwrap_or_default();
    let term = r.review_at.filter(|_| !excused).map_or_else(String::new, |at| {
        let left = words::since(now, at);
        match at < now {
            true => format!(", overdue {}", words::since(at, now)),
            false if r.kind.is_lease() => format!(", {left} left"),
            false => format!(", review in {left}"),
        }
    });
    format!("{} {}: {}{owner}{term}", words::reason(r.kind), words::since(r.since, now), r.cause)
}

fn footer(status: &Status) -> String {
    let attached: Vec<_> = status.attached.iter().map(|a| format!("{} ({})", a.interface, a.mode)).collect();
    let attached = if attached.is_empty() { "no interface".to_owned() } else { attached.join(", ") };
    if !status.daemon.running {
        return format!("rollcall {}, no daemon; on {attached}, as read from the kernel", status.daemon.version);
    }
    let adopted = if status.daemon.adopted { ", took over a running data plane" } else { "" };
    format!(
        "rollcall {}, up {}{adopted}; on {attached}",
        status.daemon.version,
        words::since(status.daemon.started, status.time)
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config::model::BackendName;
    use crate::control::schema::SuspicionStatus;
    use crate::control::testing;

    fn status() -> Status {
        let mut status = Status::new(&testing::view(), &testing::counters()).with_alerts(&testing::board());
        status.daemon.version = "1.2.3".into();
        status.nobody_told = false;
        status
    }

    #[rstest]
    #[case::any_width(None, "status.txt", include_str!("golden/status.txt"))]
    #[case::narrow(Some(80), "status-80.txt", include_str!("golden/status-80.txt"))]
    fn render_of_a_view_with_troubles_is_as_approved(
        #[case] width: Option<usize>,
        #[case] file: &str,
        #[case] expected: &str,
    ) {
        let got = render(&status(), Paint { width, ..Paint::PLAIN });
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let file = crate::docs::root().join("lb-userspace/src/cli/golden").join(file);
            std::fs::write(file, &got).unwrap();
        }
        assert_eq!(got, expected);
        let widest = got.lines().map(|line| line.chars().count()).max();
        assert!(widest <= width.or(Some(usize::MAX)), "{got}");
    }

    #[test]
    fn capacity_of_a_service_is_told_below_its_table_with_who_accepted_it() {
        let mut view = testing::view();
        (view.roll_call.services[1].n_minus_1, view.roll_call.services[1].outgrown) = testing::capacity();
        let told = |view: &crate::control::daemon::View| {
            let text = render(&Status::new(view, &testing::counters()), Paint::PLAIN);
            let lines: Vec<String> = text.lines().skip_while(|l| !l.starts_with("dns")).map(str::to_owned).collect();
            lines[3..5].to_vec()
        };
        let evidence = "if web-01 is lost, web-02 would have 900 active flows instead of 450: its max_flows is 500";
        assert_eq!(
            told(&view),
            [
                format!("  N-1 NOT met for 3 m: {evidence}"),
                "  the others cannot carry the load of web-03 for 3 m: service dns: web-02 would have 900 active flows \
                 instead of 450: its max_flows is 500"
                    .to_owned()
            ]
        );
        view.roll_call.risks = vec![testing::risk()];
        let accepted = " (accepted by ada (claimed), 30 d left: second server ordered)";
        assert_eq!(told(&view)[0], format!("  N-1 NOT met for 3 m: {evidence}{accepted}"));
    }

    #[test]
    fn verdict_of_many_out_names_some_and_counts_the_rest() {
        let mut status = status();
        let out = status.services[0].backends[1].clone();
        status.services.truncate(1);
        let many =
            (0..9).map(|i| BackendStatus { backend: BackendName::new(&format!("b{i}")).unwrap(), ..out.clone() });
        status.services[0].backends = many.collect();
        let (_, line) = verdict(&status);
        assert!(line.starts_with("0 of 9 in rotation: b0 out for"), "{line}");
        assert!(line.contains("b4 out") && !line.contains("b5 out") && line.ends_with("; and 4 more"), "{line}");
    }

    #[test]
    fn verdict_of_the_healthy_pool_counts_each_backend_once() {
        let mut status = status();
        for b in status.services.iter_mut().flat_map(|s| &mut s.backends) {
            b.in_rotation = true;
            b.reasons.clear();
        }
        assert_eq!(verdict(&status), (Tone::Good, "all 3 backends in rotation".into()));
        status.services.truncate(1);
        status.services[0].backends.truncate(1);
        assert_eq!(verdict(&status), (Tone::Good, "the only backend is in rotation".into()));
        status.services.clear();
        assert_eq!(verdict(&status), (Tone::Warn, "no service has a backend".into()));
        status.unused_backends.clear();
        assert_eq!(verdict(&status), (Tone::Warn, "no backends are configured".into()));
    }

    #[test]
    fn verdict_does_not_count_who_stands_by_and_says_when_backups_serve() {
        let mut status = status();
        for b in status.services.iter_mut().flat_map(|s| &mut s.backends) {
            b.in_rotation = true;
            b.reasons.clear();
        }
        let backup = &mut status.services[0].backends[2];
        (backup.tier, backup.in_rotation, backup.standby) = (Tier::Backup, false, true);
        assert_eq!(first_line(&status), (Tone::Good, "all 2 backends in rotation, 1 standing by".into()));
        let text = render(&status, Paint::PLAIN);
        assert!(text.contains("TIER") && text.contains("standby 30 s"), "{text}");
        let since = status.time - jiff::SignedDuration::from_secs(40);
        status.services[0].backup_in_use_since = Some(since);
        let backup = &mut status.services[0].backends[2];
        (backup.in_rotation, backup.standby) = (true, false);
        assert_eq!(first_line(&status).1, "BACKUP IN USE for 40 s in www; all 3 backends in rotation");
        (status.services[0].backup_in_use_since, status.services[1].panic_since) = (None, Some(since));
        let line = "PANIC for 40 s in dns: all in rotation although down; all 3 backends in rotation";
        assert_eq!(first_line(&status), (Tone::Bad, line.into()));
    }

    #[test]
    fn verdict_of_a_backend_out_of_one_of_its_services_names_that_service() {
        let mut status = status();
        let web_01 = &mut status.services[1].backends[0];
        web_01.in_rotation = false;
        web_01.owner = None;
        let (_, line) = verdict(&status);
        assert!(line.starts_with("1 of 3 in rotation (1 unverified): web-01 out of dns for 50 m: NO REASON"), "{line}");
    }

    #[test]
    fn suspicion_leads_the_first_line_and_is_explained_by_a_warning() {
        let mut status = status();
        assert_eq!(suspicion(&status), None);
        let since = status.time - jiff::SignedDuration::from_secs(40);
        let service = status.services[0].name.clone();
        status.services[0].backends[1].in_rotation = true;
        status.suspicions = vec![SuspicionStatus { service, since, cause: "3 of 4 members failed".into() }];
        let text = render(&status, Paint::PLAIN);
        assert!(text.starts_with("EDGE SUSPECTED for 40 s in www, 1 held although down; "), "{text}");
        assert!(text.contains("warning: service www: 3 of 4 members failed, so this host is suspected"), "{text}");
    }

    #[test]
    fn verdict_says_who_took_a_server_out_until_when_and_who_was_removed() {
        let mut status = status();
        let leased = serde_json::json!({
            "backend": "web-02", "service": null, "kind": "drain", "owner": "root", "owner_claimed": false, "uid": 0,
            "loginuid": 0, "reason": "kernel test", "begun": status.time, "recallable": true,
            "ends": status.time + jiff::SignedDuration::from_mins(12),
        });
        status.leases = vec![serde_json::from_value(leased).unwrap()];
        let gone = serde_json::json!({
            "backend": "web-04", "service": "www", "since": status.time - jiff::SignedDuration::from_mins(4), "by": "ada",
            "how": "reload", "owner": "web team", "review_at": status.time,
        });
        status.removed = vec![serde_json::from_value(gone).unwrap()];
        let (_, line) = verdict(&status);
        let expected = "2 of 4 in rotation (1 unverified): web-02 drained by root, 12 m left: kernel test; web-04 REMOVED from www 4 m ago \
                        by ada (reload) and not back (owner web team)";
        assert_eq!(line, expected);
    }

    #[test]
    fn memory_is_shown_by_what_is_free_and_when_it_ends() {
        let of = |state: &str, headroom, exhausted_in_s| MemoryStatus {
            state: state.to_owned(),
            since: Timestamp::UNIX_EPOCH,
            headroom,
            total_bytes: None,
            available_bytes: None,
            error: None,
            exhausted_in_s,
            exhausted_in_s_at_least: None,
        };
        assert_eq!(memory(&of("ample", Some(0.624), None)), (Tone::Good, "62 % free".to_owned()));
        assert_eq!(memory(&of("tight", Some(0.12), None)), (Tone::Bad, "tight, 12 % free".to_owned()));
        assert_eq!(memory(&of("unknown", None, None)), (Tone::Warn, "unknown".to_owned()));
        assert_eq!(memory(&of("ample", Some(0.3), Some(1500))), (Tone::Bad, "30 % free, ends in 25 m".to_owned()));
        assert_eq!(memory(&of("ample", Some(0.3), Some(90_000))), (Tone::Good, "30 % free".to_owned()));
    }

    #[test]
    fn warnings_name_a_service_without_any_backend() {
        let mut status = status();
        status.services[1].in_rotation = 0;
        assert!(warnings(&status).iter().any(|w| w.starts_with("dns: no backend in rotation")));
    }

    #[rstest]
    #[case(3, None, "drained 4 m: probe failed (owner web team), 6 m left; 3 flows left")]
    #[case(0, Some(60), "drained 4 m: probe failed (owner web team), 6 m left; no flow for 1 m")]
    fn row_of_a_drained_backend_says_how_long_and_which_flows_are_left(
        #[case] flows: u64,
        #[case] empty_for_s: Option<i64>,
        #[case] expected: &str,
    ) {
        let mut status = status();
        let now = status.time;
        let out = &mut status.services[0].backends[1];
        out.flows_active = flows;
        out.empty_since = empty_for_s.map(|s| now - jiff::SignedDuration::from_secs(s));
        (out.reasons[0].kind, out.reasons[0].cause) = (ReasonKind::Drained, "probe failed".into());
        let text = service(&status.services[0], now, Paint::PLAIN);
        assert!(text.lines().any(|line| line.ends_with(expected)), "{text}");
    }

    #[test]
    fn first_line_says_that_nobody_is_told() {
        let mut status = status();
        status.nobody_told = true;
        assert!(first_line(&status).1.ends_with("; no alert route, so nobody is told"));
    }

    #[test]
    fn reason_past_its_review_is_overdue() {
        let status = status();
        let mut late = status.services[0].backends[1].reasons[0].clone();
        late.review_at = Some(late.since);
        assert!(reason(&late, status.time, false).ends_with("overdue 4 m"));
    }
}
