//! TCP flows through full NAT: each phase, and what must not change it.

use lb_common::abi::Reason;
use lb_common::wire::l4::{ACK, FIN, RST, SYN};
use lb_tests::packet::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::TX;
use lb_tests::packet::world::{Family, V4, V6, World, answer, is_to_client, member_of};
use rstest::rstest;

fn segment(family: Family, port: u16, flags: u8, seq: u32, ack: u32) -> Craft {
    Craft::tcp(&family.from(port), &family.service(), flags, seq, ack)
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn tcp_flow_from_syn_to_both_fins_is_translated_and_counted(#[case] family: Family) {
    let mut world = World::new();
    let syn = world.syn(family, 40000, 100);
    let member = member_of(&syn);
    assert_eq!(syn.dst.port(), 8080, "the port is translated");
    assert_eq!(syn.src.to_string(), format!("{}:2000", family.pool));
    assert_eq!((syn.macs.1, syn.ttl), (EDGE_MAC, 63));
    assert_eq!(syn.l4, L4::Tcp { seq: 100, ack: 0, flags: SYN });

    let syn_ack = world.forwards(&answer(&syn, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
    is_to_client(&syn_ack);
    assert_eq!(syn_ack.src.to_string(), family.service());
    assert_eq!(syn_ack.dst.to_string(), family.from(40000));

    let mut request = segment(family, 40000, ACK, 101, 501);
    request.payload = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let request = world.forwards(&request);
    assert_eq!((request.dst, request.src, request.payload.len()), (syn.dst, syn.src, 18));
    let response = world.forwards(&answer(&syn, L4::Tcp { seq: 501, ack: 119, flags: ACK }, b"200 OK, more or less"));
    assert_eq!(response.payload, b"200 OK, more or less");
    assert_eq!(world.active(member), 1);
    assert_eq!(world.plane.stats(member).established, 1);
    assert_eq!(world.plane.stats(member).answers, 1);

    world.forwards(&segment(family, 40000, FIN | ACK, 119, 521));
    assert_eq!(world.active(member), 1, "half closed is active");
    world.forwards(&answer(&syn, L4::Tcp { seq: 521, ack: 120, flags: FIN | ACK }, b""));
    assert_eq!(world.active(member), 0);
    world.forwards(&segment(family, 40000, ACK, 120, 522));
    assert_eq!(world.packets(member), (4, 3));
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn tcp_reset_of_either_side_ends_the_flow_once(#[case] family: Family) {
    let mut world = World::new();
    let syn = world.handshake(family, 40001);
    let member = member_of(&syn);
    world.forwards(&answer(&syn, L4::Tcp { seq: 501, ack: 101, flags: RST | ACK }, b""));
    world.forwards(&segment(family, 40001, RST, 101, 0));
    let stats = world.plane.stats(member);
    assert_eq!((stats.opened, stats.closed, stats.resets_backend, stats.resets_client), (1, 1, 1, 1));
}

#[test]
fn tcp_refused_by_the_backend_reaches_the_client() {
    let mut world = World::new();
    let syn = world.syn(V4, 40002, 100);
    let reset = world.forwards(&answer(&syn, L4::Tcp { seq: 0, ack: 101, flags: RST | ACK }, b""));
    is_to_client(&reset);
    assert_eq!(world.active(member_of(&syn)), 0);
}

#[test]
fn tcp_retransmitted_syn_goes_the_same_way() {
    let mut world = World::new();
    let first = world.syn(V4, 40003, 100);
    let again = world.syn(V4, 40003, 100);
    assert_eq!((again.src, again.dst), (first.src, first.dst));
    let stats = world.plane.stats(member_of(&first));
    assert_eq!((stats.opened, stats.syn_retransmits), (1, 1));
}

#[test]
fn tcp_new_attempt_from_the_same_port_is_a_new_flow() {
    let mut world = World::new();
    let first = world.syn(V4, 40004, 100);
    let second = world.syn(V4, 40004, 7000);
    assert_ne!(second.src, first.src, "another source port");
    let stats = world.plane.stats(member_of(&first));
    assert_eq!((stats.opened, stats.closed), (2, 1));
    assert_eq!(world.plane.flow_entries(false), 1, "the first one's reverse entry is freed");
}

#[rstest]
#[case::not_answered_yet(None, 501)]
#[case::wrong_number(Some(500), 502)]
#[case::blind(Some(500), 0)]
fn tcp_ack_that_proves_nothing_is_dropped(#[case] backend_seq: Option<u32>, #[case] ack: u32) {
    let mut world = World::new();
    let syn = world.syn(V4, 40005, 100);
    if let Some(seq) = backend_seq {
        world.forwards(&answer(&syn, L4::Tcp { seq, ack: 101, flags: SYN | ACK }, b""));
    }
    assert_eq!(world.reason(&segment(V4, 40005, ACK, 101, ack)), Reason::DropUnproven);
    assert_eq!(world.plane.stats(member_of(&syn)).established, 0);
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn tcp_spoofed_syn_does_not_move_an_established_flow(#[case] family: Family) {
    let mut world = World::new();
    let syn = world.handshake(family, 40006);
    let spoofed = world.syn(family, 40006, 0xdead_beef);
    assert_eq!((spoofed.src, spoofed.dst), (syn.src, syn.dst), "the backend challenges it");
    let data = world.forwards(&segment(family, 40006, ACK, 101, 501));
    assert_eq!((data.src, data.dst), (syn.src, syn.dst));
    assert_eq!(world.plane.stats(member_of(&syn)).opened, 1);
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn tcp_syn_on_a_closed_flow_opens_a_new_one(#[case] family: Family) {
    let mut world = World::new();
    let old = world.handshake(family, 40007);
    world.forwards(&segment(family, 40007, FIN | ACK, 101, 501));
    world.forwards(&answer(&old, L4::Tcp { seq: 501, ack: 102, flags: FIN | ACK }, b""));
    let new = world.syn(family, 40007, 9000);
    assert_ne!(new.src.port(), old.src.port(), "the old port rests");
    assert_eq!(world.active(member_of(&new)), 1);
}

#[rstest]
#[case(V4, ACK, 700, 900, b"x".as_slice(), (900, 0, RST))]
#[case(V6, ACK, 700, 900, b"".as_slice(), (900, 0, RST))]
#[case(V4, FIN, 700, 0, b"abc".as_slice(), (0, 704, RST | ACK))]
#[case(V6, FIN, 700, 0, b"abc".as_slice(), (0, 704, RST | ACK))]
fn tcp_of_no_flow_is_reset_if_asked(
    #[case] family: Family,
    #[case] flags: u8,
    #[case] seq: u32,
    #[case] ack: u32,
    #[case] payload: &[u8],
    #[case] expected: (u32, u32, u8),
) {
    let mut world = World::new();
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    let mut packet = segment(family, 40008, flags, seq, ack);
    packet.payload = payload.to_vec();
    let ran = world.refuses(&packet);
    assert_eq!((ran.verdict, ran.reason), (TX, Some(Reason::TxReset)));
    let reset = Craft::read(&ran.packet);
    let (seq, ack, flags) = expected;
    assert_eq!(reset.l4, L4::Tcp { seq, ack, flags });
    assert_eq!((reset.src, reset.dst), (packet.dst, packet.src));
    assert_eq!(reset.macs, (CLIENT_MAC, EDGE_MAC));
    assert!(reset.payload.is_empty() && ran.packet.len() == if family.vip == V4.vip { 54 } else { 74 });
}

#[test]
fn tcp_of_no_flow_is_dropped_otherwise_and_a_reset_is_never_answered() {
    let mut world = World::new();
    assert_eq!(world.reason(&segment(V4, 40009, ACK, 1, 1)), Reason::DropNoFlow);
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    assert_eq!(world.reason(&segment(V4, 40009, RST, 1, 1)), Reason::DropNoFlow);
    assert_eq!(world.reason(&segment(V4, 40009, 0, 1, 1)), Reason::DropFlags);
}

#[test]
fn tcp_late_answer_of_a_backend_without_flow_is_dropped_or_reset() {
    let mut world = World::new();
    let late = Craft::tcp("10.0.0.1:8080", "10.9.9.1:2500", SYN | ACK, 1, 2);
    assert_eq!(world.reason(&late), Reason::DropNoReplyFlow);
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    assert_eq!(world.reason(&late), Reason::TxReset);
}

#[rstest]
#[case(SYN | FIN)]
#[case(SYN | RST)]
#[case(SYN | ACK)]
fn tcp_flags_that_no_client_sends_are_dropped(#[case] flags: u8) {
    let mut world = World::new();
    assert_eq!(world.reason(&segment(V4, 40010, flags, 1, 1)), Reason::DropFlags);
    let syn = world.handshake(V4, 40011);
    if flags & ACK == 0 {
        assert_eq!(world.reason(&segment(V4, 40011, flags, 1, 1)), Reason::DropFlags);
    }
    assert_eq!(world.active(member_of(&syn)), 1);
}

#[test]
fn tcp_fin_with_the_proving_ack_establishes_and_closes_one_side() {
    let mut world = World::new();
    let syn = world.syn(V4, 40012, 100);
    world.forwards(&answer(&syn, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
    world.forwards(&segment(V4, 40012, FIN | ACK, 101, 501));
    world.forwards(&answer(&syn, L4::Tcp { seq: 501, ack: 102, flags: FIN | ACK }, b""));
    let stats = world.plane.stats(member_of(&syn));
    assert_eq!((stats.established, stats.closed), (1, 1));
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn tcp_client_behind_another_router_gets_its_replies_there(#[case] family: Family) {
    let mut world = World::new();
    let syn = world.handshake(family, 40013);
    let mut moved = segment(family, 40013, ACK, 101, 501);
    moved.macs.1 = [2, 0, 0, 0, 0, 0x77];
    world.forwards(&moved);
    let reply = world.forwards(&answer(&syn, L4::Tcp { seq: 501, ack: 101, flags: ACK }, b"x"));
    assert_eq!(reply.macs, ([2, 0, 0, 0, 0, 0x77], EDGE_MAC));
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn tcp_control_segment_that_is_not_forwarded_changes_nothing(#[case] family: Family) {
    let mut world = World::new();
    let syn = world.handshake(family, 40014);
    let member = member_of(&syn);
    for flags in [RST, FIN | ACK] {
        let mut other_mac = segment(family, 40014, flags, 101, 501);
        other_mac.macs.0 = [2, 0, 0, 0, 9, 9];
        assert_eq!(world.reason(&other_mac), Reason::PassOtherMac);
        let mut reply = answer(&syn, L4::Tcp { seq: 501, ack: 101, flags }, b"");
        reply.macs.0 = [2, 0, 0, 0, 9, 9];
        assert_eq!(world.reason(&reply), Reason::PassOtherMac);
        let mut dying = segment(family, 40014, flags, 101, 501);
        dying.ttl = 1;
        assert_eq!(world.reason(&dying), Reason::TxTimeExceeded);
        for doff in [4 << 4, 6 << 4] {
            let mut frame = segment(family, 40014, flags, 101, 501).bytes();
            let at = frame.len() - 8;
            frame[at] = doff;
            assert_eq!(world.plane.run(&frame).reason, Some(Reason::DropMalformed));
        }
    }
    let stats = world.plane.stats(member);
    assert_eq!((stats.closed, stats.resets_client, stats.resets_backend), (0, 0, 0));
    assert_eq!(world.syn(family, 40014, 9000).src, syn.src, "still established: a SYN does not move it");
}

#[test]
fn tcp_drops_of_a_known_flow_are_counted_for_its_service() {
    let mut world = World::new();
    world.handshake(V4, 40015);
    assert_eq!(world.reason(&segment(V4, 40015, SYN | FIN, 1, 1)), Reason::DropFlags);
    assert_eq!(world.plane.drops(1, Reason::DropFlags), 1);
}

#[test]
fn tcp_syn_after_a_refusal_with_the_same_number_chooses_again() {
    let mut world = World::new();
    let first = world.syn(V4, 40016, 100);
    world.forwards(&answer(&first, L4::Tcp { seq: 0, ack: 101, flags: RST | ACK }, b""));
    let second = world.syn(V4, 40016, 100);
    assert_ne!(second.src, first.src, "a new flow");
    world.forwards(&answer(&second, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
    world.forwards(&segment(V4, 40016, ACK, 101, 501));
    assert_eq!(world.active(member_of(&second)), 1);
}

#[test]
fn tcp_reset_of_a_half_open_flow_needs_the_clients_number() {
    let mut world = World::new();
    let syn = world.syn(V4, 40017, 100);
    assert_eq!(world.reason(&segment(V4, 40017, RST, 7, 0)), Reason::DropUnproven);
    assert_eq!(world.active(member_of(&syn)), 1);
    world.forwards(&segment(V4, 40017, RST, 101, 0));
    assert_eq!(world.active(member_of(&syn)), 0);
}

#[test]
fn tcp_flow_of_another_source_address_survives_the_end_of_an_older_one() {
    // The pool changes between two flows of one tuple that got the same source port: the older record's end must not
    // take the newer one's forward entry along.
    let mut world = World::new();
    world.plane.service(1, 6, &V4.service(), lb_common::abi::Algorithm::Maglev, &[2], 0);
    let old = world.handshake(V4, 40018);
    world.forwards(&segment(V4, 40018, FIN | ACK, 101, 501));
    world.forwards(&answer(&old, L4::Tcp { seq: 501, ack: 102, flags: FIN | ACK }, b""));
    let mut settings = world.plane.settings;
    settings.pool4[0] = u32::from_ne_bytes([10, 9, 9, 2]);
    (settings.port_min, settings.port_count) = (u32::from(old.src.port()), 1);
    (settings.closed, settings.time_wait) = (0, 0);
    let keep = settings.closed;
    settings.closed = 1 << 30;
    world.plane.configure(settings);
    world.plane.local("10.9.9.2".parse().expect("an address"), lb_common::abi::LocalKind::POOL);
    let new = world.handshake(V4, 40018);
    assert_eq!((new.src.port(), new.dst), (old.src.port(), old.dst));
    assert_ne!(new.src.ip(), old.src.ip());
    settings.closed = keep;
    world.plane.configure(settings);
    let start = world.plane.collect(1).jiffies;
    while world.plane.collect(1).jiffies < start + 3 {}
    assert_eq!(world.plane.collect(8).kept[0], 1, "the older one's record is freed");
    world.forwards(&segment(V4, 40018, ACK, 101, 501));
}
