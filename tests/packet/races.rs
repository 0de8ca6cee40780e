//! Two CPUs at once on the same and on overlapping flows: whatever the interleaving, nothing that a flow owned is lost or
//! freed twice.

use std::sync::Barrier;
use std::thread;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::abi::{Algorithm, Clock, FINDINGS, maps, programs};
use lb_common::wire::l4::{ACK, FIN, RST, SYN};
use lb_tests::packet::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::Sizes;
use lb_tests::packet::world::{Family, V4, V6, World};
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
