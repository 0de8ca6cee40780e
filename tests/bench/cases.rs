//! The cases. The first is the floor.

use lb_common::abi::Algorithm;
use lb_common::wire::l4::{ACK, SYN};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::{PASS, Sizes, TX};
use lb_tests::packet::world::{Family, V4, V6, World, answer};

/// One case.
pub struct Case {
    /// What it is.
    pub name: &'static str,
    /// Highest ratio to the floor that the design allows.
    pub budget: Option<f64>,
    /// The packet of each run.
    pub packet: Vec<u8>,
    /// The verdict of each run.
    pub verdict: u32,
    /// How many flows the packets belong to, a power of two.
    pub flows: u64,
    /// The plane; `None` for the floor.
    pub world: Option<World>,
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        Case { name: "floor (bare XDP_TX)", budget: None, packet: elsewhere(V4), verdict: TX, flows: 1, world: None },
        one("not for a service, IPv4", 1.6, PASS, World::new(), elsewhere(V4)),
        one("not for a service, IPv6", 1.6, PASS, World::new(), elsewhere(V6)),
    ];
    for (family, [forward, reverse]) in [
        (V4, ["nat known flow, IPv4 TCP, client to backend", "nat known flow, IPv4 TCP, backend to client"]),
        (V6, ["nat known flow, IPv6 TCP, client to backend", "nat known flow, IPv6 TCP, backend to client"]),
    ] {
        let (world, packet, _) = established(family);
        cases.push(one(forward, 3.0, TX, world, packet));
        let (world, _, packet) = established(family);
        cases.push(one(reverse, 3.0, TX, world, packet));
    }
    let mut syn = Craft::tcp(&V4.from(1), &V4.service(), SYN, 1, 0);
    syn.payload = vec![0; 64];
    // 2^20 flows in 4,096 half-open slots: each packet opens a flow and overwrites one.
    let mut world = World::with(&Sizes { max_flows: 1024, buckets: 1024 }, Algorithm::Maglev);
    let mut settings = world.plane.settings;
    settings.port_count = 60_000;
    world.plane.configure(settings);
    cases.push(Case {
        name: "nat new flow, IPv4, overwriting a half-open one",
        budget: None,
        packet: syn.bytes(),
        verdict: TX,
        flows: 1 << 20,
        world: Some(world),
    });
    cases
}

fn one(name: &'static str, budget: f64, verdict: u32, world: World, packet: Vec<u8>) -> Case {
    Case { name, budget: Some(budget), packet, verdict, flows: 1, world: Some(world) }
}

fn elsewhere(family: Family) -> Vec<u8> {
    let other = if family.vip == V4.vip { "203.0.113.9:80" } else { "[2001:db8:ffff::9]:80" };
    Craft::udp(&family.from(1), other, &[0; 64]).bytes()
}

/// An established flow, and a packet of each direction.
fn established(family: Family) -> (World, Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    let syn = world.handshake(family, 40000);
    let mut request = Craft::tcp(&family.from(40000), &family.service(), ACK, 101, 501);
    request.payload = vec![0; 64];
    let response = answer(&syn, L4::Tcp { seq: 501, ack: 101, flags: ACK }, &[0; 64]);
    (world, request.bytes(), response.bytes())
}
