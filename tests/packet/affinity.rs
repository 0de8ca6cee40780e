//! What a flow's member depends on: the client alone (`source`), with or without a memory, or other parts of its key.

use lb_common::abi::Algorithm;
use lb_common::wire::l4::{SYN, TCP};
use lb_tests::packet::craft::Craft;
use lb_tests::packet::plane::{Sizes, table};
use lb_tests::packet::world::{Family, V4, V6, World, member_of};
use rstest::rstest;

fn world(algorithm: Algorithm) -> World {
    World::with(&Sizes { max_flows: 1024, buckets: 512 }, algorithm)
}

/// The n-th client's address.
fn client(family: Family, n: u16) -> String {
    if family.client.starts_with('[') { format!("[2001:db8:2::{n:x}]") } else { format!("198.51.100.{n}") }
}

/// The member that a client's flow gets.
#[track_caller]
fn goes(world: &mut World, family: Family, n: u16, port: u16) -> u32 {
    let from = format!("{}:{port}", client(family, n));
    member_of(&world.forwards(&Craft::tcp(&from, &family.service(), SYN, 1, 0)))
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn source_all_flows_of_a_client_have_one_member_and_clients_are_spread(#[case] family: Family) {
    let mut world = world(Algorithm::Source);
    let mut counts = [0; 2];
    for n in 1..=100 {
        let member = goes(&mut world, family, n, 1000);
        assert!((1001..1004).all(|port| goes(&mut world, family, n, port) == member), "client {n}");
        counts[(member & 1) as usize] += 1;
    }
    assert!(counts.iter().all(|n| (30..=70).contains(n)), "{counts:?}");
}

#[test]
fn source_client_has_the_same_backend_in_every_service_of_the_same_table() {
    let mut world = world(Algorithm::Source);
    for n in 1..=50 {
        let tcp = goes(&mut world, V4, n, 1000);
        let udp = world.forwards(&Craft::udp(&format!("{}:1000", client(V4, n)), &V4.service(), b"x"));
        // Members 2 and 3 of the one service are the servers that 4 and 5 are of the other.
        assert_eq!(member_of(&udp), tcp + 2, "client {n}");
    }
}

#[test]
fn addresses_ignore_the_clients_port_but_not_the_vip() {
    let mut world = world(Algorithm::Addresses);
    let mut same = 0;
    world.plane.service(5, TCP, "192.0.2.99:80", Algorithm::Addresses, &table(&[2, 3], 8), 0);
    for n in 1..=100 {
        let member = goes(&mut world, V4, n, 1000);
        assert!((1001..1004).all(|port| goes(&mut world, V4, n, port) == member), "client {n}");
        let other = Craft::tcp(&format!("{}:1000", client(V4, n)), "192.0.2.99:80", SYN, 1, 0);
        same += u32::from(member_of(&world.forwards(&other)) == member);
    }
    assert!((30..=70).contains(&same), "{same} of 100 have the same member at both VIPs");
}

#[test]
fn destination_ignores_the_client() {
    let mut world = world(Algorithm::Destination);
    let member = goes(&mut world, V4, 1, 1000);
    assert!((2..=50).all(|n| goes(&mut world, V4, n, 1000 + n) == member));
    let mut seen = [0; 2];
    for port in 1..=40 {
        world.plane.service(5, TCP, &format!("192.0.2.99:{port}"), Algorithm::Destination, &table(&[2, 3], 8), 0);
        let syn = Craft::tcp(&V4.from(1), &format!("192.0.2.99:{port}"), SYN, 1, 0);
        seen[(member_of(&world.forwards(&syn)) & 1) as usize] += 1;
    }
    assert!(seen.iter().all(|n| *n >= 8), "{seen:?}");
}

/// A world in which clients are remembered for an hour, and each client's first choice.
fn remembered(clients: u16) -> (World, Vec<u32>) {
    let mut world = world(Algorithm::Source);
    world.plane.inform(TCP, &V4.service(), |info| info.affinity = 250 * 3600);
    let first = (1..=clients).map(|n| goes(&mut world, V4, n, 1000)).collect();
    (world, first)
}

#[test]
fn affinity_keeps_a_client_where_it_was_though_the_table_changes() {
    let (mut world, first) = remembered(40);
    // Both stay in rotation, but the table gives all to one.
    world.plane.service(1, TCP, &V4.service(), Algorithm::Source, &[3, 3, 3, 3], 0);
    world.plane.inform(TCP, &V4.service(), |info| info.affinity = 250 * 3600);
    let second: Vec<u32> = (1..=40).map(|n| goes(&mut world, V4, n, 2000)).collect();
    assert_eq!(second, first);
    assert_eq!(goes(&mut world, V4, 99, 2000), 3, "who is new follows the table");
}

#[test]
fn affinity_ends_with_its_time() {
    let (mut world, first) = remembered(40);
    // Remembered an hour ago, as far as the program can tell.
    let mut known: aya::maps::HashMap<_, [u32; 5], [u32; 2]> =
        world.plane.map(lb_common::abi::maps::AFFINITIES).try_into().expect("a hash");
    let all: Vec<([u32; 5], [u32; 2])> = known.iter().map(|entry| entry.expect("an entry")).collect();
    assert_eq!(all.len(), 40);
    for (client, [member, seen]) in all {
        known.insert(client, [member, seen.wrapping_sub(250 * 3601)], 0).expect("AFFINITIES");
    }
    world.plane.service(1, TCP, &V4.service(), Algorithm::Source, &[3, 3], 0);
    world.plane.inform(TCP, &V4.service(), |info| info.affinity = 250 * 3600);
    assert!(first.contains(&2));
    assert!((1..=40).all(|n| goes(&mut world, V4, n, 2000) == 3));
}

#[test]
fn affinity_of_a_member_that_takes_no_new_flows_or_is_anothers_is_void() {
    let (mut world, first) = remembered(40);
    assert!(first.contains(&2) && first.contains(&3));
    world.plane.service(1, TCP, &V4.service(), Algorithm::Source, &[3, 3], 0);
    world.plane.inform(TCP, &V4.service(), |info| info.affinity = 250 * 3600);
    world.plane.amend(2, |member| member.weight = 0);
    assert!((1..=40).all(|n| goes(&mut world, V4, n, 2000) == 3));
    // It is back, and its clients stay where they went.
    world.plane.amend(2, |member| member.weight = 256);
    assert!((1..=40).all(|n| goes(&mut world, V4, n, 2001) == 3));
    // An id that another service has by now.
    world.plane.service(1, TCP, &V4.service(), Algorithm::Source, &[2, 2], 0);
    world.plane.inform(TCP, &V4.service(), |info| info.affinity = 250 * 3600);
    world.plane.amend(3, |member| member.service = 9);
    assert!((1..=40).all(|n| goes(&mut world, V4, n, 2002) == 2));
}
