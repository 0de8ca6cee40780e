//! VLAN tags, other interfaces, unresolved next hops.

use lb_common::abi::{Hop, Reason};
use lb_common::wire::l4::{ACK, SYN};
use lb_tests::packet::craft::{Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::{REDIRECT, backend_mac};
use lb_tests::packet::world::{V4, V6, World, answer, is_to_client, member_of};
use rstest::rstest;

/// A member's next hop with egress tags.
fn tagged(id: u32, outer: u16, inner: u16) -> Hop {
    let mut hop = Hop::new(backend_mac(id), EDGE_MAC, 1);
    hop.dst |= u64::from(outer.to_be()) << 48;
    hop.src |= u64::from(inner.to_be()) << 48;
    hop
}

#[rstest]
fn tags_of_ingress_and_egress_are_independent(
    #[values(vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)])] ingress: Vec<(u16, u16)>,
    #[values(vec![], vec![(0x8100, 15)], vec![(0x88a8, 16), (0x8100, 17)])] egress: Vec<(u16, u16)>,
) {
    for family in [V4, V6] {
        let mut world = World::new();
        let tci = |i: usize| egress.get(i).map_or(0, |t| t.1);
        let service = if family.vip == V4.vip { 1 } else { 3 };
        for (member, at) in [service * 2, service * 2 + 1].into_iter().zip(family.backends) {
            world.plane.member_via(member, service, &format!("{at}:8080"), tagged(member, tci(0), tci(1)));
        }
        let mut syn = Craft::tcp(&family.from(40000), &family.service(), SYN, 100, 0);
        syn.tags.clone_from(&ingress);
        let out = world.forwards(&syn);
        assert_eq!(out.tags, egress);
        let mut syn_ack = answer(&out, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b"");
        syn_ack.tags.clone_from(&egress);
        let back = world.forwards(&syn_ack);
        is_to_client(&back);
        assert_eq!(back.tags, ingress, "the way the request came");
    }
}

#[test]
fn backend_on_another_interface_is_redirected_to() {
    let mut world = World::new();
    for (member, at) in [2, 3].into_iter().zip(V4.backends) {
        world.plane.member(member, 1, &format!("{at}:8080"), 7);
    }
    let ran = world.plane.run(&Craft::tcp(&V4.from(1), &V4.service(), SYN, 1, 0).bytes());
    assert_eq!((ran.verdict, ran.reason), (REDIRECT, None));
}

#[test]
fn unresolved_next_hop_is_never_sent_to() {
    let mut world = World::new();
    let syn = world.handshake(V4, 1);
    let member = member_of(&syn);
    for (id, at) in [2, 3].into_iter().zip(V4.backends) {
        world.plane.member_via(id, 1, &format!("{at}:8080"), Hop::default());
    }
    assert_eq!(world.reason(&Craft::tcp(&V4.from(2), &V4.service(), SYN, 1, 0)), Reason::DropNoNextHop);
    assert_eq!(world.reason(&Craft::tcp(&V4.from(1), &V4.service(), ACK, 101, 501)), Reason::DropNoNextHop);
    world.plane.member(member, 1, &format!("{}:8080", V4.backends[member as usize - 2]), 1);
    world.forwards(&Craft::tcp(&V4.from(1), &V4.service(), ACK, 101, 501));
}

#[test]
fn changed_neighbour_takes_effect_on_known_flows() {
    let mut world = World::new();
    let syn = world.handshake(V4, 1);
    let member = member_of(&syn);
    let at = format!("{}:8080", V4.backends[member as usize - 2]);
    world.plane.member_via(member, 1, &at, Hop::new([2, 0, 0, 0, 7, 7], EDGE_MAC, 1));
    let data = world.forwards(&Craft::tcp(&V4.from(1), &V4.service(), ACK, 101, 501));
    assert_eq!(data.macs.0, [2, 0, 0, 0, 7, 7]);
}

#[rstest]
#[case::priority_tag(vec![(0x8100, 0)], vec![])]
#[case::priority_tag_before_another(vec![(0x88a8, 0), (0x8100, 7)], vec![(0x8100, 7)])]
#[case::priority_tag_within_another(vec![(0x88a8, 6), (0x8100, 0)], vec![(0x8100, 6)])]
#[case::two_priority_tags(vec![(0x88a8, 0), (0x8100, 0)], vec![])]
fn tag_whose_tci_is_zero_is_a_tag(#[case] ingress: Vec<(u16, u16)>, #[case] back: Vec<(u16, u16)>) {
    for family in [V4, V6] {
        let mut world = World::new();
        let mut syn = Craft::tcp(&family.from(40000), &family.service(), SYN, 100, 0);
        syn.tags.clone_from(&ingress);
        let out = world.forwards(&syn);
        assert_eq!((out.tags.len(), out.l4.clone()), (0, syn.l4.clone()));
        let reply = world.forwards(&answer(&out, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
        is_to_client(&reply);
        assert_eq!(reply.tags, back);
    }
}
