//! Two CPUs at once on the same and on overlapping flows: whatever the interleaving, nothing that a flow owned is lost or
//! freed twice.

use std::sync::Barrier;
use std::thread;

use aya::maps::HashMap;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::abi::{Algorithm, Clock, FINDINGS, FlowKey, FlowKey4, FlowV4, Hop, Reason, Settings, maps, programs};
use lb_common::wire::l4::{ACK, FIN, RST, SYN, TCP};
use lb_tests::packet::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::Sizes;
use lb_tests::packet::world::{Family, V4, V6, World, answer, member_of};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rstest::rstest;

/// Client ports in play: few, so that both CPUs meet on them.
const PORTS: u16 = 6;
const ROUNDS: u32 = 800;

/// Runs a program on a packet, and yields the packet as it left.
fn run(program: &Xdp, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 256];
    let options = TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::new() };
    let len = program.test_run(options).expect("BPF_PROG_TEST_RUN").data_size_out as usize;
    out.truncate(len);
    out
}

/// A flow of nobody.
const OTHER: FlowV4 = FlowV4 {
    tag: 0,
    last_seen: 0,
    src: 0,
    dst: 0,
    ports: 0,
    l3_delta: 0,
    l4_delta: 0,
    counter: 0,
    state: 0,
    seq: 0,
    opened: 0,
    member: 0,
    service: 0,
    direction: 0,
    hop: Hop { dst: 0, src: 0, link: 0 },
    answered: 0,
    chances: 0,
    tried: [0; 2],
    reserved: [0; 2],
};

/// A small generator of its own per thread, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One thread's traffic: clients and the backends they reached, at random, on ports shared with the other thread.
fn traffic(lb: &Xdp, family: Family, seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..ROUNDS {
        let port = 100 + dice.roll(u64::from(PORTS)) as u16;
        // The same few sequence numbers, so that some SYNs are retransmissions and some are new attempts.
        let isn = dice.roll(2) as u32 * 1000;
        let (from, to) = (family.from(port), family.service());
        let syn = run(lb, &Craft::tcp(&from, &to, SYN, isn, 0).bytes());
        let got = Craft::read(&syn);
        if got.macs.0 != EDGE_MAC && got.dst.port() == 8080 {
            let mut answer = got.answered(L4::Tcp { seq: 500, ack: isn + 1, flags: SYN | ACK }, b"");
            answer.macs = (EDGE_MAC, got.macs.0);
            run(lb, &answer.bytes());
            run(lb, &Craft::tcp(&from, &to, ACK, isn + 1, 501).bytes());
            let end = match dice.roll(5) {
                0 => FIN | ACK,
                1 => RST | ACK,
                2 => RST,
                _ => ACK,
            };
            answer.l4 = L4::Tcp { seq: 501, ack: isn + 1, flags: end };
            run(lb, &answer.bytes());
        }
        let last = [FIN | ACK, RST, ACK, ACK][dice.roll(4) as usize];
        let mut packet = Craft::tcp(&from, &to, last, isn + 1, 501);
        packet.macs = (EDGE_MAC, CLIENT_MAC);
        run(lb, &packet.bytes());
    }
}

/// Puts an entry of another tag under a client's key, as a look-up sees it that another CPU overtook.
fn foreign_entry(world: &mut World, port: u16, flow: impl FnOnce(Option<FlowV4>) -> FlowV4) {
    let mut flows: HashMap<_, FlowKey4, FlowV4> = world.plane.map(maps::FLOWS4).try_into().expect("a hash");
    let word = |at: [u8; 4]| u32::from_ne_bytes(at);
    let ([a, b], [c, d]) = (port.to_be_bytes(), 80u16.to_be_bytes());
    let (src, dst) = (word([198, 51, 100, 7]), word([192, 0, 2, 10]));
    let key = FlowKey { src, dst, ports: word([a, b, c, d]), proto: TCP.into() };
    let mut entry = flow(flows.get(&key, 0).ok());
    entry.tag ^= 1;
    flows.insert(key, entry, 0).expect("room");
}

#[test]
fn flow_that_another_cpu_promoted_meanwhile_is_neither_opened_again_nor_reset() {
    let mut world = World::new();
    let syn = world.handshake(V4, 1);
    let settings = Settings { reset_unknown: 1, ..world.plane.settings };
    world.plane.configure(settings);
    foreign_entry(&mut world, 1, |flow| flow.expect("it was promoted"));
    for flags in [SYN, ACK] {
        let packet = Craft::tcp(&V4.from(1), &V4.service(), flags, 101, 501);
        assert_eq!(world.reason(&packet), Reason::DropBusy, "flags {flags}");
    }
    assert_eq!(world.plane.stats(member_of(&syn)).opened, 1);
}

#[test]
fn second_attempt_of_a_client_is_not_promoted_over_the_first() {
    let mut world = World::new();
    let syn = world.syn(V4, 1, 100);
    world.forwards(&answer(&syn, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
    // The first attempt: some other flow under the same key.
    let mut taken = None;
    foreign_entry(&mut world, 1, |before| {
        taken = Some(before);
        OTHER
    });
    assert_eq!(taken, Some(None), "not promoted yet");
    let ack = Craft::tcp(&V4.from(1), &V4.service(), ACK, 101, 501);
    assert_eq!(world.reason(&ack), Reason::DropBusy);
    let ledger = world.plane.ledger(false);
    assert_eq!((ledger.kept, ledger.queued, ledger.live_slots, ledger.busy_slots), (0, 0, 1, 0), "{ledger:?}");
    assert_eq!(world.plane.stats(member_of(&syn)).established, 0);
}

#[rstest]
#[case(V4, false)]
#[case(V6, true)]
fn two_cpus_on_the_same_flows_lose_nothing(#[case] family: Family, #[case] v6: bool) {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 1 }, Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    // Records end while packets of their flows are on the way.
    (settings.closed, settings.time_wait, settings.closing, settings.half_open) = (0, 0, 0, 0);
    settings.established = 1;
    settings.port_count = 60_000;
    world.plane.configure(settings);
    let (lb, collector) = (world.plane.shared(programs::LB), world.plane.shared(programs::COLLECT));
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for cpu in 0..2 {
            let start = &start;
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu % thread::available_parallelism().map_or(1, usize::from)).expect("a CPU's number");
                sched_setaffinity(Pid::from_raw(0), &only).expect("a CPU of this machine");
                start.wait();
                for slice in 0..4 {
                    traffic(lb, family, slice << 8 | cpu as u64);
                    for _ in 0..50 {
                        run(collector, &[0; 64]);
                    }
                }
            });
        }
    });
    let ledger = world.plane.ledger(v6);
    assert_eq!(ledger.busy_slots, 0, "{ledger:?}");
    assert_eq!(ledger.kept, ledger.queued, "{ledger:?}");
    assert_eq!(ledger.records, ledger.live_slots + ledger.queued, "each record has one owner: {ledger:?}");
    assert_eq!(ledger.orphans, 0, "a forward entry without its record: {ledger:?}");
    assert_eq!(
        world.plane.array::<Clock>(maps::CLOCK).get(&0, 0).expect("CLOCK").findings,
        [0; FINDINGS],
        "nothing that cannot be was met on the way"
    );
    let members = if v6 { [6, 7] } else { [2, 3] };
    let stats = members.map(|m| world.plane.stats(m));
    let (opened, closed) = stats.iter().fold((0, 0), |(o, c), s| (o + s.opened, c + s.closed));
    assert!(opened > 1000, "the test did open flows: {opened}");
    assert_eq!(opened - closed, ledger.active, "{ledger:?}, {stats:?}");
}
