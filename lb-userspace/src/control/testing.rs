//! For tests: a fixed view with every kind of trouble in it, and a daemon that answers with it and notes what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_common::abi::{Hop, MemberStats, Reason as Refused, Traffic};
use lb_common::conntrack::Phase;

use super::daemon::{
    Actor, AlertAck, ControlError, Daemon, Duty, DutyOutcome, Edit, ErrorCode, FlowQuery, Outcome, RouteTest, Topic,
    TraceQuery, View, Warning,
};
use super::history::Window;
use super::schema::{AuditReport, Check, CheckResult, Events, Facts, PacketOut, Report, Trace, TraceStep, timestamp};
use crate::alert::{Ack, Board, Firing, Kind, Load, RouteState, Told};
use crate::config::model::*;
use crate::core::api::{
    Event, EventKind, Health, LastProbe, MemberCall, MemberName, NMinusOne, Observed, Outgrown, RollCall, Scope,
    ServiceCall, Time,
};
use crate::core::guard::Verdict;
use crate::core::lease::{Lease, LeaseKind, Owner};
use crate::core::reason::{Reason, ReasonKind};
use crate::core::risk::Risk;
use crate::io::bpf::types::{Attached, Counters, FlowRecord, MemberCounters, Mode};
use crate::io::journal::{Counted, EventQuery, Recorded, Sample};

/// 2026-03-01T12:00:00Z, an hour after boot.
pub(crate) const NOW: Time = Time { boot_ms: 3_600_000, wall_ms: 1_772_366_400_000 };

/// `seconds` before [`NOW`].
pub(crate) fn before(seconds: u64) -> Time {
    let ms = seconds * 1000;
    Time { boot_ms: NOW.boot_ms.saturating_sub(ms), wall_ms: NOW.wall_ms.saturating_sub_unsigned(ms) }
}

fn port(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn backend_name(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn backend(name: &str, last: u8, owner: Option<&str>) -> (BackendName, Backend) {
    let name = backend_name(name);
    let ipv4 = Some(Ipv4Addr::new(10, 0, 0, last));
    let owner = owner.map(Into::into);
    let server = Backend {
        name: name.clone(),
        ipv4,
        ipv6: None,
        owner,
        max_flows: None,
        memory: None,
        agent_check: None,
        slow_start: None,
    };
    (name, server)
}

/// Two services over three backends, and a fourth backend that none uses.
pub(crate) fn config() -> Config {
    let service = |name: &str, number, protocol, members: &[(&str, u16)]| Service {
        name: ServiceName::new(name).unwrap(),
        listen: Listen { vip: "192.0.2.10".parse().unwrap(), port: port(number), protocol },
        mode: crate::config::model::Mode::Nat,
        algorithm: Algorithm::Maglev,
        hash: HashFields::FiveTuple,
        affinity_timeout: None,
        table_size: 4099,
        one_way: false,
        second_chance: true,
        owner: Some("web team".into()),
        expected_out: Duration::from_secs(600),
        min_in_rotation: 1,
        expect_backends: None,
        panic: Panic::Refuse,
        slow_start: None,
        probe: None,
        members: (members.iter())
            .map(|(b, weight)| Member {
                backend: backend_name(b),
                port: port(8080),
                weight: port(*weight),
                tier: Tier::Primary,
            })
            .collect(),
    };
    Config {
        owner: ConfigOwner::Cli,
        edge: Edge { interfaces: vec!["eth0".into()], mode: AttachMode::Auto, manage_vips: true },
        source_pool: SourcePool { ipv4: vec![Ipv4Addr::new(10, 0, 0, 250)], ipv6: vec![], ports: 1024..=65535 },
        conntrack: Conntrack {
            max_flows: 1 << 20,
            max_half_open: 1 << 16,
            arena_slots: 1 << 20,
            seed: None,
            half_open_timeout: Duration::from_secs(5),
            tcp_timeout: Duration::from_secs(600),
            udp_timeout: Duration::from_secs(60),
            closing_timeout: Duration::from_secs(60),
            closed_timeout: Duration::from_secs(5),
            time_wait_timeout: Duration::from_secs(60),
            reset_unknown: true,
        },
        control: Control {
            socket: "/run/rollcall/control.sock".into(),
            state_dir: "/var/lib/rollcall".into(),
            pin_dir: "/sys/fs/bpf/rollcall".into(),
            metrics: None,
        },
        heartbeat: None,
        backends: BTreeMap::from([
            backend("web-01", 1, None),
            backend("web-02", 2, None),
            backend("web-03", 3, Some("shop team")),
            backend("spare-01", 9, None),
        ]),
        services: vec![
            service("www", 80, Protocol::Tcp, &[("web-01", 2), ("web-02", 1), ("web-03", 1)]),
            service("dns", 53, Protocol::Udp, &[("web-01", 1)]),
        ],
        alert_routes: vec![],
    }
}

fn reason(kind: ReasonKind, since: Time, cause: &str, owner: Option<&str>) -> Reason {
    let review_at = Some(since + Duration::from_secs(600));
    Reason { kind, since, cause: cause.into(), owner: owner.map(Into::into), review_at }
}

/// A member of `www` in rotation.
fn member(name: &str, id: u32, last: u8) -> MemberCall {
    MemberCall {
        backend: backend_name(name),
        id: Some(id),
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        port: 8080,
        in_rotation: true,
        tier: Tier::Primary,
        weight: 1,
        effective: 256,
        share: 1.0 / 3.0,
        health: Health::Up,
        streak: 40,
        last_probe: Some(LastProbe { time: before(1), took: Duration::from_micros(1250), error: None }),
        since: before(3000),
        reasons: vec![],
        hop: Some(Hop::new([2, 0, 0, 0, 0, last], [2, 0, 0, 0, 0, 250], 2)),
        load: None,
        observed: Some(Observed { over: Duration::from_secs(300), opened: 2 * u64::from(last), bytes: 1000 }),
        empty_since: None,
        why: "nothing stands against it".into(),
    }
}

/// `web-02` is out of `www`, `web-03` in but unverified, the attach generic, the file changed.
pub(crate) fn view() -> View {
    let config = Arc::new(config());
    let refused = "connection refused";
    let www = vec![
        MemberCall { weight: 2, effective: 512, share: 2.0 / 3.0, ..member("web-01", 1, 1) },
        MemberCall {
            in_rotation: false,
            effective: 0,
            share: 0.0,
            health: Health::Down,
            streak: 120,
            last_probe: Some(LastProbe {
                time: before(2),
                took: Duration::from_micros(300),
                error: Some(refused.into()),
            }),
            since: before(240),
            reasons: vec![reason(ReasonKind::ProbeFailed, before(240), refused, Some("web team"))],
            ..member("web-02", 2, 2)
        },
        MemberCall {
            health: Health::Unknown,
            streak: 0,
            last_probe: None,
            since: before(30),
            reasons: vec![reason(ReasonKind::Unverified, before(30), "no probe within 10 s", Some("shop team"))],
            hop: None,
            ..member("web-03", 3, 3)
        },
    ];
    let dns = vec![MemberCall { share: 1.0, ..member("web-01", 4, 1) }];
    let call = |i: usize, id, members| ServiceCall {
        name: config.services[i].name.clone(),
        id,
        listen: config.services[i].listen,
        backup_in_use: None,
        panic: None,
        at_limit: None,
        members,
        n_minus_1: None,
        outgrown: None,
    };
    View {
        roll_call: RollCall {
            time: NOW,
            services: vec![call(0, 7, www), call(1, 8, dns)],
            settled: true,
            leases: vec![],
            removed: vec![],
            memory: vec![],
            risks: vec![],
            stuck: vec![],
            silent_agents: vec![],
            skews: vec![],
            suspicions: Vec::new(),
        },
        config: config.clone(),
        config_text: "# as applied\nconfig_owner = \"cli\"\n".into(),
        config_path: "/etc/rollcall/rollcall.toml".into(),
        file_differs: true,
        attached: vec![Attached {
            interface: "eth0".into(),
            ifindex: 2,
            mode: Mode::Generic,
            fallback: Some("the driver cannot".into()),
        }],
        started: before(3000),
        adopted: false,
        created_boot_ms: NOW.boot_ms - 3_000_000,
        warnings: vec![Warning {
            topic: Topic::Mode,
            text: "eth0 is attached in generic mode: the driver cannot".into(),
        }],
        events: vec![
            event(3000, None, EventKind::Configured, "start"),
            event(3000, Some(("www", "web-01")), EventKind::InRotation, "2 probes succeeded"),
            event(240, Some(("www", "web-02")), EventKind::Down, "3 probes failed: connection refused"),
            event(240, Some(("www", "web-02")), EventKind::OutOfRotation, "probe failed: connection refused"),
        ],
        violations: 0,
        frozen: None,
        events_lost: 0,
    }
}

fn event(ago: u64, member: Option<(&str, &str)>, kind: EventKind, cause: &str) -> Event {
    let member = member.map(|(service, backend)| MemberName {
        service: ServiceName::new(service).unwrap(),
        backend: backend_name(backend),
    });
    let (backend, service) = member.map(|m| (m.backend, m.service)).unzip();
    Event { time: before(ago), backend, service, kind, by: None, cause: cause.into() }
}

/// N-1 of `dns` is not met, and it has outgrown a lease.
pub(crate) fn capacity() -> (Option<NMinusOne>, Option<Outgrown>) {
    let evidence = "web-02 would have 900 active flows instead of 450: its max_flows is 500";
    let (since, scope) = (before(180), Scope { backend: backend_name("web-03"), service: None });
    let n_minus_1 = NMinusOne {
        verdict: Verdict::DoesNotFit,
        lost: Some(backend_name("web-01")),
        evidence: format!("if web-01 is lost, {evidence}"),
        since,
        alarm: Some(before(60)),
    };
    (Some(n_minus_1), Some(Outgrown { since, evidence: format!("service dns: {evidence}"), scope }))
}

/// `dns` may be without N-1.
pub(crate) fn risk() -> Risk {
    Risk {
        service: ServiceName::new("dns"),
        owner: Owner { name: "ada".into(), claimed: true, uid: 0, loginuid: None },
        reason: "second server ordered".into(),
        begun: before(60),
        ends: NOW + Duration::from_secs(30 * 86_400),
        granted_ms: 30 * 86_400_000,
        boot_id: "this boot".into(),
    }
}

/// A drain of `web-02`.
pub(crate) fn lease() -> Lease {
    let begun = before(600);
    Lease {
        scope: Scope { backend: backend_name("web-02"), service: None },
        kind: LeaseKind::Drain,
        owner: Owner { name: "ada".into(), claimed: false, uid: 0, loginuid: Some(1000) },
        reason: "kernel test".into(),
        begun,
        ends: begun + Duration::from_secs(1800),
        granted_ms: 1_800_000,
        boot_id: "b".into(),
        recallable: true,
        overrode: None,
    }
}

/// A SYN that opens a flow to `web-01`.
pub(crate) fn trace() -> Trace {
    let step = |step: &str, found: &str| TraceStep { step: step.to_owned(), found: found.to_owned() };
    Trace {
        time: timestamp(NOW),
        protocol: Protocol::Tcp,
        from_address: "198.51.100.7:40000".parse().unwrap(),
        to_address: "192.0.2.80:80".parse().unwrap(),
        interface: "eth0".to_owned(),
        verdict: "redirect".to_owned(),
        reason: None,
        service: Some("www".to_owned()),
        backend: Some("web-01".to_owned()),
        steps: vec![step("destination", "service www"), step("flow", "none yet")],
        packet_out: Some(PacketOut {
            destination_mac: "02:00:00:00:01:01".to_owned(),
            from_address: "10.0.0.2:1024".parse().unwrap(),
            to_address: "10.0.0.11:8080".parse().unwrap(),
            ttl: 59,
            length_bytes: 54,
        }),
    }
}

/// Counters of [`view`].
pub(crate) fn counters() -> Counters {
    let stats = MemberStats {
        opened: 110,
        closed: 100,
        established: 105,
        answers: 100,
        answer_ns: 400_000_000,
        ..MemberStats::default()
    };
    let web_01 = MemberCounters {
        forward: Traffic { packets: 1000, bytes: 60_000 },
        reverse: Traffic { packets: 6000, bytes: 9_000_000 },
        stats,
        compared: 10,
    };
    Counters {
        verdicts: BTreeMap::from([(Refused::PassNotOurs, 4242), (Refused::DropNoFlow, 7)]),
        members: BTreeMap::from([(1, web_01)]),
        drops: BTreeMap::from([(7, BTreeMap::from([(Refused::DropNoFlow, 7)]))]),
    }
}

/// `web-02` is down; the log knows, and nobody on call could be told.
pub(crate) fn board() -> Board {
    let view = view();
    let mut found = crate::alert::conditions(&view, &Load::default(), NOW);
    found.retain(|c| c.kind == Kind::BackendDown);
    let route = |name: &str| RouteName::new(name).unwrap();
    let refused = "127.0.0.1:9: connection refused";
    let told = vec![
        Told { route: route("log"), delivered: Some(before(239)), times: 1, error: None },
        Told { route: route("oncall"), delivered: None, times: 0, error: Some(refused.into()) },
    ];
    let state = |name, kind, delivered, failed| RouteState {
        name: route(name),
        kind,
        severity: Severity::Warning,
        after_ms: 0,
        delivered,
        failed,
        failing: (failed > 0).then(|| (before(240), refused.to_owned())),
    };
    Board {
        time: Some(NOW),
        firing: vec![Firing {
            condition: found.remove(0),
            since: before(240),
            fired: before(240),
            told,
            acknowledged: Some(ack()),
        }],
        routes: vec![state("log", "journald", 1, 0), state("oncall", "webhook", 0, 4)],
    }
}

/// Ada works on what [`board`] shows, for half an hour.
fn ack() -> Ack {
    let by = Owner { name: "ada".into(), claimed: true, uid: 0, loginuid: None };
    Ack { by, note: Some("on it".into()), at: before(60), until: before(60) + Duration::from_secs(1800) }
}

/// A test that one of two routes took.
pub(crate) fn tests() -> Vec<RouteTest> {
    let test = |name, kind, result| RouteTest {
        route: RouteName::new(name).unwrap(),
        kind,
        result,
        took: Duration::from_micros(1500),
    };
    let refused = Err("127.0.0.1:9: connection refused".to_owned());
    vec![test("log", "journald", Ok(())), test("oncall", "webhook", refused)]
}

/// Flows: one of `www`, one whose service has left.
pub(crate) fn flows() -> Vec<FlowRecord> {
    let record = |service, member, client: &str| FlowRecord {
        protocol: Protocol::Tcp,
        client: client.parse().unwrap(),
        vip: "192.0.2.10:80".parse().unwrap(),
        source: "10.0.0.250:40001".parse().unwrap(),
        backend: "10.0.0.1:8080".parse().unwrap(),
        member,
        service,
        phase: Phase::Established,
        age_ms: 61_000,
        idle_ms: 1_000,
    };
    vec![record(7, 1, "198.51.100.7:50123"), record(99, 50, "[2001:db8::7]:50124")]
}

/// An audit that found one thing and repaired another.
pub(crate) fn audit() -> AuditReport {
    let check = |name: &str, result, evidence: &str, mend: Option<&str>| Check {
        name: name.into(),
        result,
        evidence: evidence.into(),
        why: None,
        mend: mend.map(Into::into),
    };
    let checks = vec![
        check("maps", CheckResult::Ok, "2 services, 4 members: as decided", None),
        check("pins", CheckResult::Fail, "MEMBERS is missing", Some("plan `rollcall down` and a start")),
    ];
    AuditReport::new(super::schema::timestamp(NOW), vec!["www/web-02: its entry in MEMBERS was cleared".into()], checks)
}

/// The events of [`view`], as the journal has them.
pub(crate) fn events() -> Events {
    let recorded = view().events.iter().zip(1..).map(|(event, id)| Recorded::new(id, event)).collect();
    Events::new(timestamp(NOW), recorded, true, 4)
}

/// An hour of the journal of [`view`].
pub(crate) fn facts() -> Facts {
    let events = view().events.iter().zip(1..).map(|(event, id)| Recorded::new(id, event)).collect();
    let sample = |ago, opened| Sample {
        wall_ms: before(ago).wall_ms,
        service: "www".into(),
        backend: Some("web-01".into()),
        counted: Counted { opened, ..Counted::default() },
    };
    Facts {
        time: timestamp(NOW),
        window: (timestamp(before(3600)), timestamp(NOW)),
        known_since: Some(timestamp(before(3000))),
        stood: Vec::new(),
        events: (events, false),
        traffic: [sample(3000, 0), sample(60, 110)].iter().collect(),
    }
}

/// A daemon that notes what it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeDaemon(pub(crate) Arc<Mutex<Asked>>);

/// What a [`FakeDaemon`] was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) queries: Vec<FlowQuery>,
    pub(crate) histories: Vec<EventQuery>,
    pub(crate) edits: Vec<(Edit, Actor)>,
    pub(crate) duties: Vec<Duty>,
    pub(crate) tests: Vec<Option<RouteName>>,
    pub(crate) acks: Vec<AlertAck>,
    pub(crate) verbs: BTreeSet<&'static str>,
}

impl Daemon for FakeDaemon {
    async fn view(&self) -> Result<Arc<View>, ControlError> {
        Ok(Arc::new(view()))
    }

    async fn counters(&self) -> Result<Counters, ControlError> {
        Ok(counters())
    }

    async fn flows(&self, query: FlowQuery) -> Result<(Vec<FlowRecord>, bool), ControlError> {
        self.0.lock().unwrap().queries.push(query);
        Ok((flows(), true))
    }

    async fn trace(&self, query: TraceQuery) -> Result<Trace, ControlError> {
        Ok(Trace { protocol: query.protocol, from_address: query.from, to_address: query.to, ..trace() })
    }

    async fn events(&self, query: EventQuery) -> Result<Events, ControlError> {
        self.0.lock().unwrap().histories.push(query);
        Ok(events())
    }

    async fn report(&self, window: Window) -> Result<Report, ControlError> {
        Ok(Report::new(Facts { window: (window.since, window.until), ..facts() }))
    }

    async fn reload(&self, _: Actor) -> Result<Outcome, ControlError> {
        self.0.lock().unwrap().verbs.insert("reload");
        Err(ControlError::new(ErrorCode::Config, "rollcall.toml:3:7: port 0").with_hint("use 1 to 65535"))
    }

    async fn edit(&self, edit: Edit, actor: Actor) -> Result<Outcome, ControlError> {
        self.0.lock().unwrap().edits.push((edit, actor));
        Ok(Outcome { revision: 12, changes: vec!["www/web-02: weight 1 -> 3".into()] })
    }

    async fn duty(&self, duty: Duty, _: Actor) -> Result<DutyOutcome, ControlError> {
        self.0.lock().unwrap().duties.push(duty);
        Ok(DutyOutcome {
            lease: None,
            risk: None,
            changes: vec!["the drain of web-02 is over; it is probed now".into()],
        })
    }

    async fn audit(&self, repair: Option<Actor>) -> Result<AuditReport, ControlError> {
        self.0.lock().unwrap().verbs.insert(if repair.is_some() { "repair" } else { "audit" });
        Ok(audit())
    }

    async fn alerts(&self) -> Result<Arc<Board>, ControlError> {
        Ok(Arc::new(board()))
    }

    async fn test_alert(&self, route: Option<RouteName>, _: Actor) -> Result<Vec<RouteTest>, ControlError> {
        self.0.lock().unwrap().tests.push(route);
        Ok(tests())
    }

    async fn acknowledge(&self, ack: AlertAck, _: Actor) -> Result<Firing, ControlError> {
        self.0.lock().unwrap().acks.push(ack);
        Ok(board().firing.remove(0))
    }

    async fn down(&self, _: Actor) -> Result<(), ControlError> {
        self.0.lock().unwrap().verbs.insert("down");
        Ok(())
    }
}
