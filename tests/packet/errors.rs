//! ICMP errors about translated packets: inside and outside as the other side knows them.

use lb_common::abi::{Called, Hop, Reason};
use lb_common::wire::l4::{ACK, SYN};
use lb_tests::packet::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::{DROP, PASS, Ran, TX, backend_mac};
use lb_tests::packet::world::{Family, V4, V6, World, answer, member_of};
use rstest::rstest;

/// A router between the edge and somebody.
fn router(family: Family) -> &'static str {
    if is_v4(family) { "172.31.0.1:0" } else { "[2001:db8:ffff::1]:0" }
}

fn is_v4(family: Family) -> bool {
    family.vip == V4.vip
}

/// Type and code of "fragmentation needed" or "packet too big", and where they carry an MTU of 1280.
fn too_big(family: Family) -> (u8, u8, u32) {
    if is_v4(family) { (3, 4, 1280) } else { (2, 0, 1280) }
}

/// An error about a packet that left the edge, by a router on that side; the quote is cut after `quote` bytes.
fn error(family: Family, (kind, code, rest): (u8, u8, u32), about: &Craft, quote: usize) -> Craft {
    let mut sent = about.bytes();
    sent.drain(..14 + 4 * about.tags.len());
    sent.truncate(quote);
    let mut message = Craft::icmp(router(family), &format!("{}", about.src), kind, code, rest, &sent);
    message.macs = (EDGE_MAC, about.macs.0);
    message.tags.clone_from(&about.tags);
    message
}

/// The quoted packet as a frame that can be read back: checksums included, so whole.
fn quoted(message: &Craft) -> Craft {
    let ether = if message.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    Craft::read(&[&[0; 12][..], &ether, &message.payload].concat())
}

/// Source, destination with ports, and payload.
fn ends(packet: &Craft) -> (String, String, Vec<u8>) {
    (packet.src.to_string(), packet.dst.to_string(), packet.payload.clone())
}

/// Runs an error that must be translated.
#[track_caller]
fn translated(world: &mut World, message: &Craft) -> Craft {
    let ran = world.plane.run(&message.bytes());
    assert_eq!((ran.verdict, ran.reason), (TX, Some(Reason::TxIcmpError)), "{message:?}");
    let out = Craft::read(&ran.packet);
    assert_eq!((&out.l4, out.ttl), (&message.l4, message.ttl - 1));
    out
}

/// An established flow: a packet of the client, and of the backend, as they arrive and as they leave.
struct Flow {
    request: (Craft, Craft),
    reply: (Craft, Craft),
    member: u32,
}

fn tcp(world: &mut World, family: Family, tags: &[(u16, u16)]) -> Flow {
    let syn = world.handshake(family, 40000);
    let mut request = Craft::tcp(&family.from(40000), &family.service(), ACK, 101, 501);
    (request.tags, request.payload) = (tags.to_vec(), b"what a client asks".to_vec());
    let reply = answer(&syn, L4::Tcp { seq: 501, ack: 101, flags: ACK }, b"what a backend says");
    let (to_backend, to_client) = (world.forwards(&request), world.forwards(&reply));
    Flow { request: (request, to_backend), reply: (reply, to_client), member: member_of(&syn) }
}

fn udp(world: &mut World, family: Family, checksum: bool) -> Flow {
    let l4 = L4::Udp { checksum };
    let mut request = Craft::udp(&family.from(50000), &family.service(), b"what a client asks");
    request.l4 = l4.clone();
    let to_backend = world.forwards(&request);
    let reply = answer(&to_backend, l4, b"what a backend says");
    let to_client = world.forwards(&reply);
    // Once more, and it is established.
    world.forwards(&request);
    Flow { member: member_of(&to_backend), request: (request, to_backend), reply: (reply, to_client) }
}

#[rstest]
fn error_from_the_backends_side_reaches_the_client_from_the_vip(
    #[values(V4, V6)] family: Family,
    #[values(vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)])] tags: Vec<(u16, u16)>,
) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &tags);
    let out = translated(&mut world, &error(family, too_big(family), &flow.request.1, 2000));
    assert_eq!((out.macs, &out.tags), ((CLIENT_MAC, EDGE_MAC), &tags));
    assert_eq!((out.src.ip(), out.dst.ip()), (flow.request.0.dst.ip(), flow.request.0.src.ip()));
    assert_eq!(ends(&quoted(&out)), ends(&flow.request.0));
}

#[rstest]
fn error_from_the_clients_side_reaches_the_backend_from_the_source_address(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    let out = translated(&mut world, &error(family, too_big(family), &flow.reply.1, 2000));
    assert_eq!(out.macs, (backend_mac(flow.member), EDGE_MAC));
    assert_eq!((out.src.ip(), out.dst.ip()), (flow.reply.0.dst.ip(), flow.reply.0.src.ip()));
    assert_eq!(ends(&quoted(&out)), ends(&flow.reply.0));
}

#[rstest]
fn error_about_a_datagram_is_translated(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    // Before the second datagram the flow is half-open: a first answer may be too big already.
    for flow in [udp(&mut World::new(), family, true), udp(&mut world, family, true)] {
        let mut fresh = World::new();
        let half_open = fresh.forwards(&flow.request.0);
        let reply = fresh.forwards(&answer(&half_open, L4::Udp { checksum: true }, b"x"));
        translated(&mut fresh, &error(family, too_big(family), &reply, 2000));
        translated(&mut fresh, &error(family, too_big(family), &half_open, 2000));
    }
    let flow = udp(&mut world, family, true);
    let out = translated(&mut world, &error(family, too_big(family), &flow.request.1, 2000));
    assert_eq!(ends(&quoted(&out)), ends(&flow.request.0));
    let out = translated(&mut world, &error(family, too_big(family), &flow.reply.1, 2000));
    assert_eq!(ends(&quoted(&out)), ends(&flow.reply.0));
}

#[test]
fn quoted_datagram_without_checksum_stays_without() {
    let mut world = World::new();
    let flow = udp(&mut world, V4, false);
    let out = translated(&mut world, &error(V4, too_big(V4), &flow.request.1, 2000));
    assert_eq!(quoted(&out).l4, L4::Udp { checksum: false });
}

/// Every length of quote that a router may choose, from eight bytes of L4 on: the message's own checksum is right, the
/// quoted one where it is there.
#[rstest]
fn quote_may_end_anywhere_after_eight_bytes(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    let (l4, ports) = if is_v4(family) { (20, 20) } else { (40, 40) };
    let whole = flow.request.0.bytes()[14..].to_vec();
    for quote in l4 + 8..=whole.len() {
        let out = translated(&mut world, &error(family, too_big(family), &flow.request.1, quote));
        // TTL and the header's checksum are as the router saw them, one hop later.
        assert_eq!(out.payload[ports..quote.min(l4 + 16)], whole[ports..quote.min(l4 + 16)], "{quote}");
        if quote >= l4 + 18 {
            assert_eq!(out.payload[l4 + 16..], whole[l4 + 16..quote], "{quote}");
        }
    }
    for quote in 0..l4 + 8 {
        let message = error(family, too_big(family), &flow.request.1, quote);
        let ran = world.plane.run(&message.bytes());
        assert_eq!((ran.verdict, ran.reason), (PASS, Some(Reason::PassOtherProtocol)), "{quote}");
        assert_eq!(ran.packet, message.bytes());
    }
}

#[rstest]
fn every_kind_of_error_is_translated(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    let kinds: &[(u8, u8)] = if is_v4(family) {
        &[(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0)]
    } else {
        &[(1, 0), (1, 3), (1, 4), (2, 0), (3, 0), (3, 1), (4, 0)]
    };
    for &(kind, code) in kinds {
        translated(&mut world, &error(family, (kind, code, 0x0700_0000), &flow.request.1, 200));
        translated(&mut world, &error(family, (kind, code, 0x0700_0000), &flow.reply.1, 200));
    }
}

/// Options before the message and in the quote, padding behind.
#[test]
fn error_with_ipv4_options_and_padding_is_translated() {
    let mut world = World::new();
    let flow = tcp(&mut world, V4, &[]);
    let mut about = flow.request.1.clone();
    about.options = vec![1; 8];
    let mut message = error(V4, too_big(V4), &about, 2000);
    message.options = vec![1; 4];
    let mut frame = message.bytes();
    frame.extend([0xee; 20]);
    let ran = world.plane.run(&frame);
    assert_eq!(ran.reason, Some(Reason::TxIcmpError));
    let mut expected = flow.request.0.clone();
    expected.options = about.options;
    assert_eq!(ends(&quoted(&Craft::read(&ran.packet))), ends(&expected));
}

#[rstest]
fn error_about_no_flow_is_dropped_if_it_could_be_ours(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    let mut empty = World::new();
    for about in [&flow.request.1, &flow.reply.1] {
        let ran = empty.plane.run(&error(family, too_big(family), about, 2000).bytes());
        assert_eq!((ran.verdict, ran.reason), (DROP, Some(Reason::DropIcmpNoFlow)));
    }
    let service = if is_v4(family) { 1 } else { 3 };
    assert_eq!(empty.plane.drops(service, Reason::DropIcmpNoFlow), 1, "that about the service's packet");
}

#[rstest]
fn error_about_the_hosts_own_packets_passes(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    // From a source address by a port outside its range, and from a VIP by a port that no service has.
    for from in [format!("{}:33333", family.pool), format!("{}:22", family.vip)] {
        let mut about = Craft::tcp(&from, &format!("{}:8080", family.backends[0]), SYN, 1, 0);
        about.macs = (CLIENT_MAC, EDGE_MAC);
        passes(&mut world, &error(family, too_big(family), &about, 2000));
    }
    // A ping of the host, and an error about an error: no ports, no answer.
    for kind in if is_v4(family) { [8, 3] } else { [128, 1] } {
        let mut about = Craft::icmp(&format!("{}:0", family.vip), &family.from(0), kind, 0, 0, &[0x45; 48]);
        about.macs = (CLIENT_MAC, EDGE_MAC);
        passes(&mut world, &error(family, too_big(family), &about, 2000));
    }
}

#[track_caller]
fn passes(world: &mut World, message: &Craft) {
    let ran = world.plane.run(&message.bytes());
    assert_eq!((ran.verdict, ran.reason), (PASS, Some(Reason::PassOtherProtocol)), "{message:?}");
    assert_eq!(ran.packet, message.bytes(), "untouched");
}

#[rstest]
fn error_that_cannot_be_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    let good = error(family, too_big(family), &flow.request.1, 2000);
    let run = |world: &mut World, change: &dyn Fn(&mut Craft)| -> Ran {
        let mut message = good.clone();
        change(&mut message);
        world.plane.run(&message.bytes())
    };
    // To one address of ours, about what another sent.
    let vip = flow.request.0.dst;
    assert_eq!(run(&mut world, &|m| m.dst = vip).reason, Some(Reason::DropMalformed));
    assert_eq!(run(&mut world, &|m| m.ttl = 1).reason, Some(Reason::DropTtl));
    assert_eq!(run(&mut world, &|m| m.src = vip).reason, Some(Reason::DropMartian));
    assert_eq!(run(&mut world, &|m| m.macs.0 = [2, 0, 0, 0, 9, 9]).reason, Some(Reason::PassOtherMac));
    // A later fragment has no ports (of IPv6, what stands behind the header says so), another version no place here.
    let (at, value) = if is_v4(family) { (7, 9) } else { (6, 44) };
    assert_eq!(run(&mut world, &|m| m.payload[at] = value).reason, Some(Reason::PassOtherProtocol));
    assert_eq!(run(&mut world, &|m| m.payload[0] = 0x95).reason, Some(Reason::PassOtherProtocol));
    translated(&mut world, &good);
}

#[rstest]
fn error_towards_an_unresolved_backend_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    let service = if is_v4(family) { 1 } else { 3 };
    for (id, at) in [service * 2, service * 2 + 1].into_iter().zip(family.backends) {
        world.plane.member_via(id, service, &format!("{at}:8080"), Hop::default());
    }
    let ran = world.plane.run(&error(family, too_big(family), &flow.reply.1, 2000).bytes());
    assert_eq!(ran.reason, Some(Reason::DropNoNextHop));
    assert_eq!(world.plane.drops(service, Reason::DropNoNextHop), 1);
}

/// A quoted fragment header, as of a first fragment or an atomic one.
#[test]
fn quote_with_a_fragment_header_is_followed() {
    let mut world = World::new();
    let flow = tcp(&mut world, V6, &[]);
    let mut about = flow.request.1.clone();
    about.extensions = vec![(44, vec![0, 0, 0, 1, 0, 0, 0, 9])];
    let out = translated(&mut world, &error(V6, too_big(V6), &about, 2000));
    assert_eq!(out.payload[48..52], flow.request.0.bytes()[54..58], "the client's ports");
}

#[rstest]
fn error_without_its_program_passes(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let flow = tcp(&mut world, family, &[]);
    world.plane.uninstall(Called::Icmp);
    let ran = world.plane.run(&error(family, too_big(family), &flow.request.1, 2000).bytes());
    assert_eq!((ran.verdict, ran.reason), (PASS, Some(Reason::PassNoProgram)));
}
