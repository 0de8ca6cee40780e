//! Configurations, built from the checked model's types.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom};
use rollcall::config::model::{
    Algorithm, AttachMode, Backend, BackendName, Config, ConfigOwner, Conntrack, Control, Edge, HashFields, Listen,
    Member, Mode, Panic, Probe, ProbeKind, Protocol, Service, ServiceName, SourcePool, Tier,
};

pub fn port(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a port above 0")
}

pub fn backend(n: u8) -> Backend {
    Backend {
        name: BackendName::new(&format!("web-{n}")).expect("a name"),
        ipv4: Some(Ipv4Addr::new(10, 0, 0, n)),
        ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into())),
        owner: Some("backend-team".to_owned()),
        memory: None,
        max_flows: None,
        agent_check: None,
        slow_start: None,
    }
}

pub fn probe(rise: u32, fall: u32) -> Probe {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
    Probe { kind: ProbeKind::Tcp, port: None, interval, timeout, rise, fall }
}

/// A TCP service on 192.0.2.1:80 with backends 1 to `members`, weight 1, probed with rise 2 and fall 3.
pub fn service(members: u8) -> Service {
    let member = |n| Member { backend: backend(n).name, port: port(8080), weight: port(1), tier: Tier::Primary };
    Service {
        name: ServiceName::new("web").expect("a name"),
        listen: Listen { vip: Ipv4Addr::new(192, 0, 2, 1).into(), port: port(80), protocol: Protocol::Tcp },
        algorithm: Algorithm::RoundRobin,
        hash: HashFields::FiveTuple,
        affinity_timeout: None,
        table_size: 1009,
        mode: Mode::Nat,
        one_way: false,
        second_chance: true,
        owner: Some("web-team".to_owned()),
        expected_out: Duration::from_secs(600),
        min_in_rotation: 1,
        expect_backends: None,
        panic: Panic::Refuse,
        slow_start: None,
        probe: Some(probe(2, 3)),
        members: (1..=members).map(member).collect(),
    }
}

pub fn config(services: Vec<Service>) -> Config {
    let seconds = Duration::from_secs;
    Config {
        owner: ConfigOwner::Cli,
        edge: Edge { interfaces: vec!["eth0".to_owned()], mode: AttachMode::Auto, manage_vips: true },
        source_pool: SourcePool {
            ipv4: vec![Ipv4Addr::new(10, 0, 0, 250)],
            ipv6: vec![Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 250)],
            ports: 1024..=65535,
        },
        conntrack: Conntrack {
            max_flows: 65536,
            max_half_open: 4096,
            arena_slots: 16384,
            seed: None,
            half_open_timeout: seconds(5),
            tcp_timeout: seconds(900),
            udp_timeout: seconds(60),
            closing_timeout: seconds(60),
            closed_timeout: seconds(2),
            time_wait_timeout: seconds(60),
            reset_unknown: true,
        },
        control: Control {
            socket: "/run/rollcall/control.sock".into(),
            state_dir: "/var/lib/rollcall".into(),
            pin_dir: "/sys/fs/bpf/rollcall".into(),
            metrics: None,
        },
        heartbeat: None,
        backends: (1..=20).map(backend).map(|b| (b.name.clone(), b)).collect(),
        services,
        alert_routes: vec![],
    }
}

/// Some configuration: one to four services of both families, some under new names, ports or sizes.
pub fn random(rng: &mut StdRng) -> Config {
    let mut numbers: Vec<u8> = (1..=6).collect();
    numbers.shuffle(rng);
    let services = numbers.into_iter().take(rng.random_range(1..=4)).map(|n| random_service(rng, n)).collect();
    let mut config = config(services);
    let pool = rng.random_range(1..=3);
    config.source_pool.ipv4 = (0..pool).map(|n| Ipv4Addr::new(10, 0, 0, 250 + n)).collect();
    if rng.random_range(0..4) == 0 {
        // A backend moves to another address.
        let n = rng.random_range(1..=8u8);
        let moved = config.backends.get_mut(&backend(n).name).expect("there are 20");
        moved.ipv4 = Some(Ipv4Addr::new(10, 0, 0, 100 + n));
    }
    crate::limits::vary(rng, &mut config);
    for n in 1..=8u8 {
        let source = rng.random::<bool>().then(crate::memory::source);
        let asked = rng.random::<bool>().then(crate::advice::check);
        let backend = config.backends.get_mut(&backend(n).name).expect("there are 20");
        (backend.memory, backend.agent_check) = (source, asked);
        backend.max_flows = (rng.random_range(0..3) == 0).then(|| rng.random_range(1..40));
    }
    config
}

fn random_service(rng: &mut StdRng, n: u8) -> Service {
    let mut backends: Vec<u8> = (1..=8).collect();
    backends.shuffle(rng);
    backends.truncate(rng.random_range(1..=7));
    let mut service = service(0);
    let renamed = if rng.random_range(0..5) == 0 { "renamed" } else { "service" };
    service.name = ServiceName::new(&format!("{renamed}-{n}")).expect("a name");
    service.listen.vip = match n % 3 {
        0 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into(),
        // Two services share an address.
        _ => Ipv4Addr::new(192, 0, 2, n / 2).into(),
    };
    service.listen.port = port(80 + u16::from(n));
    service.listen.protocol = if n == 4 { Protocol::Udp } else { Protocol::Tcp };
    service.one_way = n == 4 && rng.random();
    service.algorithm = *[Algorithm::Maglev, Algorithm::RoundRobin, Algorithm::LeastConn, Algorithm::Source]
        .choose(rng)
        .expect("there are four");
    if service.algorithm == Algorithm::Maglev {
        let fields = [HashFields::FiveTuple, HashFields::Addresses, HashFields::Destination];
        service.hash = *fields.choose(rng).expect("there are three");
    }
    service.affinity_timeout =
        (service.algorithm == Algorithm::Source && rng.random()).then(|| Duration::from_secs(600));
    service.table_size = if rng.random() { 251 } else { 1009 };
    let mut fresh = probe(rng.random_range(1..=3), rng.random_range(1..=4));
    fresh.interval = Duration::from_millis(rng.random_range(1000..8000));
    fresh.timeout = fresh.interval.mul_f64(rng.random_range(0.1..=1.0));
    service.probe = (rng.random_range(0..6) > 0).then_some(fresh);
    let weight = |rng: &mut StdRng| if rng.random_range(0..3) == 0 { rng.random_range(1..=400) } else { 1 };
    let mut member = |n| {
        let other = rng.random_range(0..6) == 0;
        let port_number = port(if other { 9090 } else { 8080 });
        Member { backend: backend(n).name, port: port_number, weight: port(weight(rng)), tier: Tier::Primary }
    };
    service.members = backends.into_iter().map(&mut member).collect();
    crate::resort::vary(rng, &mut service);
    service
}
