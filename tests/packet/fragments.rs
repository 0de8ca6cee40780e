//! Fragments: they follow their first one, each packet under an identification of its own.

use lb_common::abi::{Called, Reason};
use lb_common::checksum::{fold, sum};
use lb_common::wire::l4::{ACK, SYN};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::{DROP, PASS, REDIRECT, TX};
use lb_tests::packet::world::{Family, V4, V6, World, answer, is_to_client, member_of};
use rstest::rstest;

const CHECKED: L4 = L4::Udp { checksum: true };

fn is_v4(family: Family) -> bool {
    family.vip == V4.vip
}

/// A big datagram from a client.
fn datagram(family: Family, port: u16, len: usize) -> Craft {
    let payload: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
    Craft::udp(&family.from(port), &family.service(), &payload)
}

/// One fragment of a packet.
fn fragment(packet: &Craft, id: u32, from: usize, to: usize, more: bool) -> Vec<u8> {
    let whole = packet.bytes();
    let l3 = 14 + 4 * packet.tags.len();
    let header = if packet.src.is_ipv4() { 20 + packet.options.len() } else { 40 };
    let (head, body) = whole[l3..].split_at(header);
    let mut frame = whole[..l3].to_vec();
    let mut head = head.to_vec();
    if packet.src.is_ipv4() {
        head[2..4].copy_from_slice(&((header + to - from) as u16).to_be_bytes());
        head[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        head[6..8].copy_from_slice(&((from / 8) as u16 | u16::from(more) << 13).to_be_bytes());
        head[10..12].fill(0);
        let check = !fold(sum(&head));
        head[10..12].copy_from_slice(&check.to_ne_bytes());
    } else {
        head[4..6].copy_from_slice(&((8 + to - from) as u16).to_be_bytes());
        let next = std::mem::replace(&mut head[6], 44);
        head.extend([next, 0]);
        head.extend((from as u16 | u16::from(more)).to_be_bytes());
        head.extend(id.to_be_bytes());
    }
    frame.extend(head);
    frame.extend(&body[from..to.min(body.len())]);
    frame
}

/// A packet in fragments of at most `size` bytes of payload.
fn split(packet: &Craft, id: u32, size: usize) -> Vec<Vec<u8>> {
    let header = if packet.src.is_ipv4() { 20 + packet.options.len() } else { 40 };
    let len = packet.bytes().len() - 14 - 4 * packet.tags.len() - header;
    (0..len).step_by(size).map(|at| fragment(packet, id, at, (at + size).min(len), at + size < len)).collect()
}

/// The identification and place of a fragment, and the frame as if it were the whole packet's beginning.
fn taken_apart(frame: &[u8]) -> (u32, usize, Vec<u8>) {
    let mut l3 = 12;
    while matches!(frame[l3..l3 + 2], [0x81, 0] | [0x88, 0xa8]) {
        l3 += 4;
    }
    l3 += 2;
    let word = |at: usize| u16::from_be_bytes([frame[l3 + at], frame[l3 + at + 1]]);
    let mut whole = frame.to_vec();
    if frame[l3] >> 4 == 4 {
        let header = usize::from(frame[l3] & 15) * 4;
        assert_eq!(fold(sum(&frame[l3..l3 + header])), 0xffff, "header checksum");
        whole[l3 + 6..l3 + 8].fill(0);
        whole.truncate(l3 + usize::from(word(2)));
        (u32::from(word(4)), usize::from(word(6) & 0x1fff) * 8, whole)
    } else {
        let id = u32::from_be_bytes(frame[l3 + 44..l3 + 48].try_into().expect("4 bytes"));
        whole.truncate(l3 + 40 + usize::from(word(4)));
        whole[l3 + 6] = frame[l3 + 40];
        whole.drain(l3 + 40..l3 + 48);
        (id, usize::from(word(42) & 0xfff8), whole)
    }
}

/// What a receiver makes of the fragments: the packet, read with its checksums, and the identification that all have.
#[track_caller]
fn joined(frames: &[Vec<u8>]) -> (Craft, u32) {
    let (id, at, mut whole) = taken_apart(&frames[0]);
    assert_eq!(at, 0, "the first one first");
    let l3 = 14 + tags_of(&frames[0]) * 4;
    let v4 = whole[l3] >> 4 == 4;
    let header = if v4 { usize::from(whole[l3] & 15) * 4 } else { 40 };
    for frame in &frames[1..] {
        let (other, at, part) = taken_apart(frame);
        assert_eq!(other, id, "one identification");
        assert_eq!(whole[..l3], part[..l3], "one way");
        assert_eq!(at, whole.len() - l3 - header, "no gap");
        whole.extend(&part[l3 + header..]);
    }
    let len = whole.len() - l3;
    if v4 {
        whole[l3 + 2..l3 + 4].copy_from_slice(&(len as u16).to_be_bytes());
        whole[l3 + 10..l3 + 12].fill(0);
        let check = !fold(sum(&whole[l3..l3 + header]));
        whole[l3 + 10..l3 + 12].copy_from_slice(&check.to_ne_bytes());
    } else {
        whole[l3 + 4..l3 + 6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    }
    (Craft::read(&whole), id)
}

fn tags_of(frame: &[u8]) -> usize {
    (0..2).take_while(|n| matches!(frame[12 + 4 * n..14 + 4 * n], [0x81, 0] | [0x88, 0xa8])).count()
}

/// Runs fragments that must all be forwarded.
#[track_caller]
fn forwarded(world: &mut World, frames: &[Vec<u8>]) -> (Craft, u32) {
    let out: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| {
            let ran = world.plane.run(frame);
            assert!(ran.reason.is_none() && matches!(ran.verdict, TX | REDIRECT), "{ran:?}");
            ran.packet
        })
        .collect();
    joined(&out)
}

#[track_caller]
fn reason(world: &mut World, frame: &[u8]) -> Reason {
    let ran = world.plane.run(frame);
    assert!(matches!(ran.verdict, DROP | PASS), "{ran:?}");
    ran.reason.expect("neither forwards")
}

#[rstest]
fn datagram_in_fragments_arrives_whole_in_both_directions(
    #[values(V4, V6)] family: Family,
    #[values(vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)])] tags: Vec<(u16, u16)>,
) {
    let mut world = World::new();
    let mut ids = Vec::new();
    let mut member = None;
    // The first opens the flow, the third establishes it.
    for id in [7, 7, 8, 9] {
        let mut sent = datagram(family, 50_000, 8192);
        sent.tags.clone_from(&tags);
        let (got, fresh) = forwarded(&mut world, &split(&sent, id, 1480));
        assert_eq!(got.payload, sent.payload);
        assert_eq!((got.ttl, got.dst.port()), (63, 8080));
        ids.push(fresh);
        assert_eq!(*member.get_or_insert(member_of(&got)), member_of(&got));
        let reply = answer(&got, CHECKED, &vec![0xa5; 8000]);
        let (back, fresh) = forwarded(&mut world, &split(&reply, 7, 1448));
        is_to_client(&back);
        assert_eq!((back.src, back.dst, &back.tags), (sent.dst, sent.src, &tags));
        assert_eq!(back.payload, reply.payload);
        ids.push(fresh);
    }
    let distinct: std::collections::BTreeSet<u32> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), ids.len(), "each packet has its own: {ids:x?}");
    let stats = world.plane.stats(member.expect("four packets went somewhere"));
    assert_eq!((stats.opened, stats.established), (1, 1));
    assert_eq!(world.packets(member.expect("as above")), (4 * 6, 4 * 6), "each fragment is a packet");
}

#[rstest]
fn two_clients_with_one_identification_do_not_meet(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let (a, b) = (datagram(family, 1000, 3000), datagram(family, 2000, 3000));
    // Two flows of one client even: then source, destination and protocol are the same, and the later one's counts.
    let (first, second) = (split(&a, 7, 1480), split(&b, 8, 1480));
    let mut out = [Vec::new(), Vec::new()];
    for (x, y) in first.iter().zip(&second) {
        out[0].push(world.plane.run(x).packet);
        out[1].push(world.plane.run(y).packet);
    }
    let ((x, id_x), (y, id_y)) = (joined(&out[0]), joined(&out[1]));
    assert_eq!((x.payload, y.payload), (a.payload, b.payload));
    assert_ne!((id_x, x.src.port()), (id_y, y.src.port()));
}

#[rstest]
fn tcp_segment_in_fragments_of_an_established_flow_is_forwarded(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    world.handshake(family, 40_000);
    let mut data = Craft::tcp(&family.from(40_000), &family.service(), ACK, 101, 501);
    data.payload = vec![0x77; 1400];
    let (got, _) = forwarded(&mut world, &split(&data, 1, 512));
    assert_eq!(got.payload, data.payload);
}

#[rstest]
fn fragment_without_its_first_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let parts = split(&datagram(family, 1000, 5000), 7, 1480);
    assert_eq!(reason(&mut world, &parts[1]), Reason::DropFragment);
    world.plane.run(&parts[0]);
    // Another packet's, and another protocol's.
    assert_eq!(reason(&mut world, &split(&datagram(family, 1000, 5000), 8, 1480)[1]), Reason::DropFragment);
    assert_eq!(world.plane.run(&parts[2]).reason, None, "in whatever order they come");
    assert_eq!(world.plane.run(&parts[1]).reason, None);
}

#[rstest]
fn tiny_first_fragment_is_dropped_and_followed_by_nobody(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let syn = Craft::tcp(&family.from(1), &family.service(), SYN, 1, 0);
    // The flags would stand in the second.
    for size in [8, 16] {
        let parts = split(&syn, 7, size);
        assert_eq!(reason(&mut world, &parts[0]), Reason::DropFragment, "{size}");
        assert_eq!(reason(&mut world, &parts[1]), Reason::DropFragment, "{size}");
    }
    assert_eq!(world.plane.flow_entries(!is_v4(family)), 0);
}

#[rstest]
fn fragment_that_overlaps_the_first_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let sent = datagram(family, 1000, 3000);
    assert_eq!(world.plane.run(&fragment(&sent, 7, 0, 1480, true)).reason, None);
    for (from, to) in [(8, 64), (1472, 1480), (1472, 2000)] {
        assert_eq!(reason(&mut world, &fragment(&sent, 7, from, to, true)), Reason::DropFragment, "{from} to {to}");
    }
    assert_eq!(world.plane.run(&fragment(&sent, 7, 1480, 3008, false)).reason, None);
}

#[rstest]
fn fragment_that_cannot_be_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let sent = datagram(family, 1000, 3000);
    assert_eq!(world.plane.run(&fragment(&sent, 7, 0, 1480, true)).reason, None);
    // Not in units of eight, though others follow; beyond what a length can say.
    assert_eq!(reason(&mut world, &fragment(&sent, 7, 1480, 1493, true)), Reason::DropMalformed);
    let mut far = fragment(&sent, 7, 1480, 1504, false);
    let at = if is_v4(family) { 14 + 6 } else { 14 + 40 + 2 };
    let place: u16 = if is_v4(family) { 0x1fff } else { 0xfff8 };
    far[at..at + 2].copy_from_slice(&place.to_be_bytes());
    assert_eq!(reason(&mut world, &far), Reason::DropMalformed);
    let cut = fragment(&sent, 7, 1480, 2000, true);
    assert_eq!(reason(&mut world, &cut[..cut.len() - 1]), Reason::DropTruncated);
    let mut whole = sent.clone();
    whole.payload.truncate(100);
    let mut long = fragment(&whole, 9, 0, 64, true);
    // The datagram's length is less than what came of it already.
    let length = if is_v4(family) { 14 + 20 + 4 } else { 14 + 48 + 4 };
    long[length..length + 2].copy_from_slice(&20u16.to_be_bytes());
    assert_eq!(reason(&mut world, &long), Reason::DropMalformed);
}

#[rstest]
fn fragments_of_what_is_the_hosts_pass(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let mut other = datagram(family, 1000, 3000);
    other.dst.set_port(5353);
    let ping = Craft::icmp(&family.from(1), &family.service(), if is_v4(family) { 8 } else { 128 }, 0, 1, &[0; 3000]);
    for (packet, first) in [(other, Reason::PassNoService), (ping, Reason::PassFragment)] {
        for (n, part) in split(&packet, 7, 1480).iter().enumerate() {
            let ran = world.plane.run(part);
            assert_eq!((ran.verdict, ran.reason), (PASS, Some(if n == 0 { first } else { Reason::PassFragment })));
            assert_eq!(&ran.packet, part, "untouched");
        }
    }
    let elsewhere = if is_v4(family) { "203.0.113.1:80" } else { "[2001:db8::1]:80" };
    let mut part = split(&Craft::udp(&family.from(1), elsewhere, &[0; 3000]), 7, 1480).remove(1);
    assert_eq!(reason(&mut world, &part), Reason::PassNotOurs);
    part = split(&datagram(family, 1000, 3000), 7, 1480).remove(0);
    part[..6].copy_from_slice(&[2, 0, 0, 0, 9, 9]);
    assert_eq!(reason(&mut world, &part), Reason::PassOtherMac);
}

/// A new packet under an old identification: what was remembered of the other must not be used.
#[rstest]
fn dropped_first_fragment_takes_an_older_ones_place(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let parts = split(&datagram(family, 1000, 3000), 7, 1480);
    assert_eq!(world.plane.run(&parts[0]).reason, None);
    let mut ended = datagram(family, 1000, 3000);
    ended.ttl = 1;
    assert_eq!(reason(&mut world, &split(&ended, 7, 1480)[0]), Reason::DropTtl);
    assert_eq!(reason(&mut world, &parts[1]), Reason::DropFragment);
}

#[rstest]
fn first_fragment_of_no_flow_is_never_answered_with_a_reset(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    let mut data = Craft::tcp(&family.from(1), &family.service(), ACK, 101, 501);
    data.payload = vec![0; 1400];
    assert_eq!(reason(&mut world, &split(&data, 7, 512)[0]), Reason::DropNoFlow);
}

#[rstest]
fn fragment_without_its_program_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    world.plane.uninstall(Called::Fragment);
    for part in split(&datagram(family, 1000, 3000), 7, 1480) {
        assert_eq!(reason(&mut world, &part), Reason::DropNoProgram);
    }
}
