//! What cannot be is put right and logged: a foreign hand in the program's own maps, and the collector's lines.

use std::time::Duration;

use aya::Pod;
use aya::maps::{HashMap, Queue};
use lb_common::abi::{Clock, Finding, Flow, FlowKey, FlowKey4, maps};
use lb_common::conntrack::Direction;
use lb_tests::packet::lines::Lines;
use lb_tests::packet::world::{Family, V4, V6, World, member_of};
use lb_tests::testbed::poll;
use rstest::rstest;

/// Long for a few ticks of the kernel.
const SOON: Duration = Duration::from_secs(10);

const STRAY: FlowKey4 = FlowKey { src: 1, dst: 2, ports: 3, proto: 6 };

fn clock(world: &mut World) -> Clock {
    world.plane.array::<Clock>(maps::CLOCK).get(&0, 0).expect("CLOCK")
}

/// Queues a record of which no flow knows.
fn enqueue_stray(world: &mut World) {
    let mut ages: Queue<_, FlowKey4> = world.plane.map(maps::AGES4).try_into().expect("a queue");
    ages.push(STRAY, 0).expect("room");
}

/// Removes the entries of one direction.
fn remove<A: Copy>(world: &mut World, map: &str, direction: Direction)
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    let mut flows: HashMap<_, FlowKey<A>, Flow<A>> = world.plane.map(map).try_into().expect("a hash");
    let entries: Vec<_> = flows.iter().map(|entry| entry.expect("an entry")).collect();
    let gone = entries.iter().filter(|(_, flow)| flow.direction == direction as u32);
    assert_eq!(gone.map(|(key, _)| flows.remove(key).expect("it was there")).count(), 1);
}

#[test]
fn stray_record_is_given_up_logged_and_leaves_the_limit_alone() {
    let mut world = World::new();
    let mut lines = Lines::of(&mut world.plane);
    world.handshake(V4, 1);
    enqueue_stray(&mut world);
    let clock = world.plane.collect(1);
    assert_eq!(clock.kept, [0, 0], "the stray one's place was the flow's");
    world.plane.collect(1);
    assert_eq!(lines.take(), ["WARN rollcall::ebpf keys in the record queue without a flow, given up: 1"]);
    // Below zero would be above every limit: no flow could be promoted any more.
    enqueue_stray(&mut world);
    let clock = world.plane.collect(1);
    assert_eq!(clock.kept, [0, 0]);
    assert_eq!(clock.findings[Finding::BelowZero as usize], 1);
    world.handshake(V4, 2);
}

#[test]
fn findings_are_logged_once_a_second_and_none_is_lost() {
    let mut world = World::new();
    let mut lines = Lines::of(&mut world.plane);
    let stray = |lines: &[String]| -> Vec<u64> {
        let of = |line: &String| line.strip_prefix("WARN rollcall::ebpf keys in ")?.rsplit(' ').next()?.parse().ok();
        lines.iter().filter_map(of).collect()
    };
    let mut settings = world.plane.settings;
    // A second that no test outlives, but the time since the machine started did.
    settings.hz = 1 << 30;
    world.plane.configure(settings);
    for _ in 0..3 {
        enqueue_stray(&mut world);
        world.plane.collect(1);
    }
    assert_eq!(stray(&lines.take()), [1], "the first at once, the others not within its second");
    settings.hz = 1;
    world.plane.configure(settings);
    poll::until(SOON, "the other two in one line", || {
        world.plane.collect(1);
        match stray(&lines.take())[..] {
            [] => Err("nothing yet".to_owned()),
            ref counts => {
                assert_eq!(counts, [2]);
                Ok(())
            }
        }
    });
    world.plane.collect(1000);
    assert_eq!(lines.take(), [""; 0], "nothing new, nothing said");
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn active_flow_without_its_clients_side_is_ended_and_logged(#[case] family: Family) {
    let mut world = World::new();
    let mut lines = Lines::of(&mut world.plane);
    let v6 = family.client.starts_with('[');
    let syn = world.handshake(family, 1);
    world.plane.collect(8);
    assert_eq!((lines.take().len(), world.active(member_of(&syn))), (0, 1), "a whole flow is none of its business");
    match v6 {
        false => remove::<u32>(&mut world, maps::FLOWS4, Direction::Forward),
        true => remove::<[u32; 4]>(&mut world, maps::FLOWS6, Direction::Forward),
    }
    world.plane.collect(8);
    assert_eq!(lines.take(), ["WARN rollcall::ebpf active flows whose client side was gone, ended: 1"]);
    assert_eq!((world.plane.flow_entries(v6), world.active(member_of(&syn))), (0, 0));
    assert_eq!(clock(&mut world).kept, [0, 0]);
}

#[test]
fn half_open_flow_without_its_reverse_entry_is_logged_when_its_slot_is_freed() {
    let mut world = World::new();
    let mut lines = Lines::of(&mut world.plane);
    world.syn(V4, 1, 1);
    remove::<u32>(&mut world, maps::FLOWS4, Direction::Reverse);
    let mut settings = world.plane.settings;
    settings.half_open = 0;
    world.plane.configure(settings);
    poll::until(SOON, "a line", || {
        world.plane.collect(16);
        let lines = lines.take();
        if lines.is_empty() {
            return Err("nothing yet".to_owned());
        }
        assert_eq!(lines, ["WARN rollcall::ebpf half-open flows whose reverse entry was gone, ended: 1"]);
        Ok(())
    });
}
