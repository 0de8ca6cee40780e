//! Second chances: a SYN that a backend refuses, or does not answer, is given to another member.

use lb_common::abi::{Algorithm, Reason, service_flags};
use lb_common::wire::l4::{ACK, RST, SYN, TCP};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::{Sizes, table};
use lb_tests::packet::world::{Family, V4, V6, World, answer, is_to_client, member_of};
use rstest::rstest;

/// A world whose TCP services give second chances; SYNs that come again at once count as sent again.
fn world(algorithm: Algorithm) -> World {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, algorithm);
    for family in [V4, V6] {
        world.plane.inform(TCP, &family.service(), |info| info.flags |= service_flags::SECOND_CHANCE);
    }
    let mut settings = world.plane.settings;
    settings.hz = 0;
    world.plane.configure(settings);
    world
}

/// The backend's refusal of a SYN that it got.
fn refusal(syn: &Craft) -> Craft {
    let L4::Tcp { seq, .. } = syn.l4 else { panic!("a SYN: {syn:?}") };
    answer(syn, L4::Tcp { seq: 0, ack: seq.wrapping_add(1), flags: RST | ACK }, b"")
}

/// Options of a usual SYN: MSS, SACK permitted, timestamps, window scale.
const OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

/// A client's SYN with these options.
fn syn_with(family: Family, port: u16, options: &[u8]) -> Vec<u8> {
    let mut craft = Craft::tcp(&family.from(port), &family.service(), SYN, 7000, 0);
    craft.payload = options.to_vec();
    let mut bytes = craft.bytes();
    let l4 = bytes.len() - 20 - options.len();
    let sum = |bytes: &[u8]| lb_common::checksum::fold(lb_common::checksum::sum(bytes));
    let before = sum(&bytes[l4 + 12..l4 + 16]);
    bytes[l4 + 12] = ((5 + options.len() / 4) as u8) << 4;
    bytes[l4 + 14..l4 + 16].copy_from_slice(&[0xfa, 0xf0]);
    let after = sum(&bytes[l4 + 12..l4 + 16]);
    let check = u16::from_ne_bytes([bytes[l4 + 16], bytes[l4 + 17]]);
    let check = lb_common::checksum::update(check, u64::from(!before) + u64::from(after));
    bytes[l4 + 16..l4 + 18].copy_from_slice(&check.to_ne_bytes());
    bytes
}

#[rstest]
#[case(V4, [2, 3], &[])]
#[case(V4, [2, 3], &OPTIONS)]
#[case(V6, [6, 7], &OPTIONS)]
#[case(V6, [6, 7], &[1; 40])]
fn refused_syn_is_sent_to_the_other_member_as_the_client_sent_it(
    #[case] family: Family,
    #[case] members: [u32; 2],
    #[case] options: &[u8],
) {
    let mut world = world(Algorithm::Maglev);
    let first = world.plane.run(&syn_with(family, 1000, options));
    let got = Craft::read(&first.packet);
    let (from, to) = if member_of(&got) == members[0] { (members[0], members[1]) } else { (members[1], members[0]) };
    let second = world.plane.run(&refusal(&got).bytes());
    assert_eq!(second.reason, None, "forwarded");
    let moved = Craft::read(&second.packet);
    assert_eq!(member_of(&moved), to);
    // But for addresses, ports and checksums it is what the first member got: `read` has checked the checksums.
    assert_eq!((&moved.l4, &moved.payload), (&got.l4, &got.payload));
    assert_eq!(first.packet.len(), second.packet.len());
    let l4 = second.packet.len() - 20 - options.len();
    assert_eq!(second.packet[l4 + 12..l4 + 16], first.packet[l4 + 12..l4 + 16], "length of the header, flags, window");
    assert_eq!(&second.packet[l4 + 20..], options);
    let (old, new) = (world.plane.stats(from), world.plane.stats(to));
    assert_eq!((old.opened, old.closed, old.moved_away, old.resets_backend, old.unanswered), (1, 1, 1, 1, 0));
    assert_eq!((new.opened, new.closed, new.moved_to), (1, 0, 1));
    assert_eq!((world.active(from), world.active(to)), (0, 1));
    // The handshake ends with the second member, and the client knows of one server only.
    let L4::Tcp { seq, .. } = moved.l4 else { panic!("{moved:?}") };
    let reply = world.forwards(&answer(&moved, L4::Tcp { seq: 500, ack: seq + 1, flags: SYN | ACK }, b""));
    is_to_client(&reply);
    let ack = world.forwards(&Craft::tcp(&family.from(1000), &family.service(), ACK, seq + 1, 501));
    assert_eq!(member_of(&ack), to);
    let ledger = world.plane.ledger(family.client.starts_with('['));
    assert_eq!((ledger.records, ledger.live_slots, ledger.busy_slots, ledger.kept), (1, 0, 0, 1), "{ledger:?}");
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn refused_by_all_members_the_reset_reaches_the_client(#[case] family: Family) {
    let mut world = world(Algorithm::RoundRobin);
    let first = world.syn(family, 1000, 7000);
    let second = world.forwards(&refusal(&first));
    assert_ne!(member_of(&second), member_of(&first));
    let told = world.forwards(&refusal(&second));
    is_to_client(&told);
    assert!(matches!(told.l4, L4::Tcp { ack: 7001, flags, .. } if flags == RST | ACK), "{told:?}");
    assert_eq!(world.active(member_of(&first)) + world.active(member_of(&second)), 0);
    // A later attempt begins anew, with all its chances.
    let again = world.syn(family, 1000, 9000);
    let other = world.forwards(&refusal(&again));
    assert_ne!(member_of(&other), member_of(&again));
}

#[test]
fn refused_three_times_is_enough_and_nobody_is_tried_twice() {
    let mut world = world(Algorithm::Maglev);
    for id in [8, 9] {
        world.plane.member(id, 1, &format!("10.0.0.{id}:8080"), 1);
    }
    for port in 1..=20 {
        world.plane.service(
            1,
            TCP,
            &V4.service(),
            Algorithm::Maglev,
            &table(&[2, 3, 8, 9], 8),
            service_flags::SECOND_CHANCE,
        );
        let mut tried = vec![world.syn(V4, port, 7000)];
        for _ in 0..2 {
            let next = world.forwards(&refusal(&tried[tried.len() - 1]));
            assert!(tried.iter().all(|before| member_of(before) != member_of(&next)), "port {port}");
            tried.push(next);
        }
        is_to_client(&world.forwards(&refusal(&tried[2])));
    }
}

#[test]
fn refused_by_the_only_member_the_reset_reaches_the_client_at_once() {
    let mut world = world(Algorithm::Maglev);
    world.plane.service(1, TCP, &V4.service(), Algorithm::Maglev, &table(&[3], 8), service_flags::SECOND_CHANCE);
    let syn = world.syn(V4, 1, 7000);
    is_to_client(&world.forwards(&refusal(&syn)));
    let stats = world.plane.stats(3);
    assert_eq!((stats.opened, stats.closed, stats.moved_away, stats.resets_backend), (1, 1, 0, 1));
}

#[test]
fn refused_where_the_other_has_no_free_port_the_reset_reaches_the_client() {
    let mut world = world(Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.port_count = 1;
    world.plane.configure(settings);
    let first = world.syn(V4, 1, 7000);
    let second = world.syn(V4, 2, 7000);
    assert_ne!(member_of(&first), member_of(&second));
    is_to_client(&world.forwards(&refusal(&first)));
    assert_eq!((world.active(member_of(&first)), world.active(member_of(&second))), (0, 1));
}

#[test]
fn reset_that_is_not_the_refusal_of_the_syn_is_no_refusal() {
    let mut world = world(Algorithm::RoundRobin);
    let syn = world.syn(V4, 1, 7000);
    // Another number: whoever sent it did not see the SYN, or answers an older one.
    let other = answer(&syn, L4::Tcp { seq: 0, ack: 6001, flags: RST | ACK }, b"");
    is_to_client(&world.forwards(&other));
    // Without the service's consent.
    let mut plain = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    let syn = plain.syn(V4, 1, 7000);
    is_to_client(&plain.forwards(&refusal(&syn)));
    // After the backend's answer it is the end of a connection.
    let syn = world.syn(V4, 2, 7000);
    world.forwards(&answer(&syn, L4::Tcp { seq: 500, ack: 7001, flags: SYN | ACK }, b""));
    is_to_client(&world.forwards(&refusal(&syn)));
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn unanswered_syn_sent_again_goes_to_another_member_and_the_late_answer_is_refused(#[case] family: Family) {
    let mut world = world(Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    let first = world.syn(family, 1, 7000);
    let second = world.syn(family, 1, 7000);
    assert_ne!(member_of(&first), member_of(&second));
    let stats = world.plane.stats(member_of(&first));
    assert_eq!(
        (stats.opened, stats.closed, stats.moved_away, stats.unanswered, stats.syn_retransmits),
        (1, 1, 1, 1, 1)
    );
    // Both were tried: it stays where it is, and is forwarded.
    let third = world.syn(family, 1, 7000);
    assert_eq!(member_of(&third), member_of(&second));
    assert_eq!(third, second);
    // The first wakes up.
    let late = answer(&first, L4::Tcp { seq: 500, ack: 7001, flags: SYN | ACK }, b"");
    assert_eq!(world.reason(&late), Reason::TxReset);
    // The second answers, and the handshake ends with it.
    world.forwards(&answer(&second, L4::Tcp { seq: 900, ack: 7001, flags: SYN | ACK }, b""));
    let again = world.syn(family, 1, 7000);
    assert_eq!(member_of(&again), member_of(&second), "answered: the client lost the answer, not the member");
    let ack = world.forwards(&Craft::tcp(&family.from(1), &family.service(), ACK, 7001, 901));
    assert_eq!(member_of(&ack), member_of(&second));
}

#[test]
fn duplicate_of_a_syn_is_no_retransmission() {
    let mut world = world(Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.hz = u32::MAX;
    world.plane.configure(settings);
    let first = world.syn(V4, 1, 7000);
    assert_eq!(world.syn(V4, 1, 7000), first);
}

#[test]
fn affinity_follows_the_client_to_the_member_that_took_it() {
    let mut world = world(Algorithm::Source);
    world.plane.inform(TCP, &V4.service(), |info| info.affinity = 250 * 3600);
    let first = world.syn(V4, 1, 7000);
    let second = world.forwards(&refusal(&first));
    assert_eq!(member_of(&world.syn(V4, 2, 7000)), member_of(&second));
}
