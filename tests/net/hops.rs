//! Next hops and links follow the kernel.

use std::time::Duration;

use lb_common::abi::{Hop, MAX_LINKS};
use rollcall::io::net::NetEvent;

use crate::ns::{Pair, Watch, ips};

#[test]
fn neighbour_on_link_is_resolved_in_both_families() {
    let pair = Pair::new();
    let ifindex = pair.ifindex("eth0");
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0", "eth1"]);
        watch.handle.resolve(ips(&["10.0.0.2", "fd00:0::2"]));
        let expected = Hop::new(Pair::mac(0, 2), Pair::mac(0, 1), ifindex).with_mtu(1500);
        let mut macs = [0; MAX_LINKS];
        (macs[0], macs[1]) = (expected.src, Hop::new(Pair::mac(1, 1), [0; 6], 0).dst);
        assert_eq!(watch.next().await, NetEvent::Links(macs));
        let mut seen = Vec::new();
        for _ in 0..2 {
            let NetEvent::NextHop(address, hop) = watch.next().await else { panic!("only next hops follow") };
            assert_eq!(hop, Ok(expected), "{address}");
            seen.push(address);
        }
        seen.sort();
        assert_eq!(seen, ips(&["10.0.0.2", "fd00:0::2"]));
        watch.stop().await;
    });
}

#[test]
fn peer_with_a_new_mac_is_followed_without_traffic() {
    let pair = Pair::new();
    // The kernel itself would take ten minutes to doubt what it knows.
    pair.edge.sh("for f in ipv4 ipv6; do echo 600000 > /proc/sys/net/$f/neigh/eth0/base_reachable_time_ms; done");
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.0.0.2", "fd00:0::2"]));
        for address in ["10.0.0.2", "fd00:0::2"] {
            assert_eq!(watch.hop(address).await.unwrap().dst_mac(), Pair::mac(0, 2));
        }
        // Silently: arp_notify and ndisc_notify are off.
        pair.peer.sh("ip link set eth0 address 02:00:00:00:00:99");
        for _ in 0..2 {
            let NetEvent::NextHop(address, hop) = watch.next().await else { panic!("only next hops follow") };
            assert_eq!(hop.unwrap().dst_mac(), Pair::mac(0, 0x99), "{address}");
        }
    });
}

#[test]
fn neighbour_that_goes_away_is_reported_and_found_again() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.0.0.2"]));
        let hop = watch.hop("10.0.0.2").await.unwrap();
        pair.peer.sh("ip addr del 10.0.0.2/24 dev eth0");
        assert_eq!(watch.hop("10.0.0.2").await, Err("no answer to ARP for 10.0.0.2 on eth0".into()));
        pair.peer.sh("ip addr add 10.0.0.2/24 dev eth0");
        assert_eq!(watch.hop("10.0.0.2").await, Ok(hop));
    });
}

#[test]
fn address_that_nobody_has_is_reported_in_both_families() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.0.0.77"]));
        assert_eq!(watch.hop("10.0.0.77").await, Err("no answer to ARP for 10.0.0.77 on eth0".into()));
        watch.handle.resolve(ips(&["fd00:0::77"]));
        let expected = "no answer to neighbour discovery for fd00::77 on eth0";
        assert_eq!(watch.hop("fd00:0::77").await, Err(expected.into()));
    });
}

#[test]
fn route_changes_are_followed_and_refusals_say_why() {
    let pair = Pair::new();
    let (eth0, eth1) = (pair.ifindex("eth0"), pair.ifindex("eth1"));
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0", "eth1"]);
        watch.handle.resolve(ips(&["192.0.2.9"]));
        let ip = |script: &str| drop(pair.edge.sh(&format!("ip {script}")));
        assert_eq!(watch.hop("192.0.2.9").await, Err("no route to 192.0.2.9".into()));
        let via = |n, ifindex| Hop::new(Pair::mac(n, 2), Pair::mac(n, 1), ifindex).with_mtu(1500);
        ip("route add 192.0.2.0/24 via 10.0.0.2");
        assert_eq!(watch.hop("192.0.2.9").await, Ok(via(0, eth0)));
        ip("route replace 192.0.2.0/24 via inet6 fd00:1::2 dev eth1");
        assert_eq!(watch.hop("192.0.2.9").await, Ok(via(1, eth1)));
        for kind in ["blackhole", "unreachable", "prohibit"] {
            ip(&format!("route replace {kind} 192.0.2.0/24"));
            let expected = format!("the route to 192.0.2.9 is of type {kind}");
            assert_eq!(watch.hop("192.0.2.9").await, Err(expected));
        }
        ip("route del 192.0.2.0/24");
        assert_eq!(watch.hop("192.0.2.9").await, Err("no route to 192.0.2.9".into()));
        ip("addr add 192.0.2.9/32 dev lo");
        assert_eq!(watch.hop("192.0.2.9").await, Err("192.0.2.9 is an address of this host".into()));
    });
}

#[test]
fn ipv6_route_refusals_say_why() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["2001:db8::9"]));
        assert_eq!(watch.hop("2001:db8::9").await, Err("no route to 2001:db8::9".into()));
        for kind in ["blackhole", "unreachable", "prohibit"] {
            pair.edge.sh(&format!("ip -6 route add {kind} 2001:db8::/32"));
            let expected = format!("the route to 2001:db8::9 is of type {kind}");
            assert_eq!(watch.hop("2001:db8::9").await, Err(expected));
            pair.edge.sh(&format!("ip -6 route del {kind} 2001:db8::/32"));
            assert_eq!(watch.hop("2001:db8::9").await, Err("no route to 2001:db8::9".into()));
        }
        pair.edge.sh("ip -6 route add 2001:db8::/32 via fd00:0::2");
        assert_eq!(watch.hop("2001:db8::9").await.unwrap().dst_mac(), Pair::mac(0, 2));
    });
}

#[test]
fn route_by_an_interface_not_attached_is_refused_by_name() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.0.1.2"]));
        let expected = "route to 10.0.1.2 leaves by eth1, which is not among [edge] interfaces (eth0)";
        assert_eq!(watch.hop("10.0.1.2").await, Err(expected.into()));
    });
}

#[test]
fn neighbour_on_a_vlan_is_reached_by_the_parent_with_its_tag() {
    let pair = Pair::new();
    if !pair.edge.has_vlans() {
        lb_tests::skip::record(
            "net hops::neighbour_on_a_vlan",
            "this kernel has no 802.1Q VLAN devices (CONFIG_VLAN_8021Q)",
        );
        return;
    }
    let ifindex = pair.ifindex("eth0");
    for (ns, host) in [(&pair.edge, 1), (&pair.peer, 2)] {
        ns.sh(&format!(
            "ip link add link eth0 name v291 type vlan id 291
             ip addr add 10.5.0.{host}/24 dev v291
             ip link set v291 up"
        ));
    }
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.5.0.2"]));
        let hop = watch.hop("10.5.0.2").await.unwrap();
        assert_eq!((hop.ifindex(), hop.dst_mac(), hop.src_mac()), (ifindex, Pair::mac(0, 2), Pair::mac(0, 1)));
        // 291 = 0x0123, in network byte order behind the six bytes of the MAC; no inner tag.
        assert_eq!((hop.dst.to_le_bytes()[6..].to_vec(), hop.src >> 48), (vec![0x01, 0x23], 0));
    });
}

#[test]
fn link_down_and_up_is_followed_without_a_new_attach() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.0.0.2"]));
        let hop = watch.hop("10.0.0.2").await;
        pair.peer.sh("ip link set eth0 down");
        let carrier = "eth0 has no carrier, and the route to 10.0.0.2 leaves by it".to_owned();
        assert_eq!(watch.next().await, NetEvent::NextHop(ips(&["10.0.0.2"])[0], Err(carrier)));
        pair.peer.sh("ip link set eth0 up");
        assert_eq!(watch.next().await, NetEvent::NextHop(ips(&["10.0.0.2"])[0], hop));
    });
}

#[test]
fn interface_deleted_and_made_again_is_reported_for_a_new_attach() {
    let pair = Pair::new();
    let before = pair.ifindex("eth0");
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0", "eth1"]);
        watch.handle.resolve(ips(&["10.0.0.2"]));
        watch.hop("10.0.0.2").await.unwrap();
        let eth1 = Hop::new(Pair::mac(1, 1), [0; 6], 0).dst;
        pair.edge.sh("ip link del eth0");
        assert_eq!(watch.next().await, NetEvent::LinkGone("eth0".into()));
        assert_eq!(watch.next().await, NetEvent::Links([0, eth1, 0, 0]));
        assert!(watch.hop("10.0.0.2").await.unwrap_err().starts_with("no route"));
        pair.connect(0);
        assert_eq!(watch.next().await, NetEvent::LinkBack("eth0".into()));
        assert_eq!(watch.next().await, NetEvent::Links([Hop::new(Pair::mac(0, 1), [0; 6], 0).dst, eth1, 0, 0]));
        let after = pair.ifindex("eth0");
        assert_ne!(before, after);
        // Until all of it is up there may be other answers on the way.
        loop {
            if let Ok(hop) = watch.hop("10.0.0.2").await {
                assert_eq!(hop, Hop::new(Pair::mac(0, 2), Pair::mac(0, 1), after).with_mtu(1500));
                break;
            }
        }
    });
}

#[test]
fn mac_change_of_an_own_interface_changes_links_and_hops() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.resolve(ips(&["10.0.0.2"]));
        watch.hop("10.0.0.2").await.unwrap();
        pair.edge.sh("ip link set eth0 address 02:00:00:00:00:55");
        let new = Hop::new(Pair::mac(0, 0x55), [0; 6], 0).dst;
        assert_eq!(watch.next().await, NetEvent::Links([new, 0, 0, 0]));
        assert_eq!(watch.hop("10.0.0.2").await.unwrap().src_mac(), Pair::mac(0, 0x55));
    });
}

#[test]
fn flood_of_notifications_that_overflows_loses_no_change() {
    let pair = Pair::new();
    let files = tempfile::tempdir().unwrap();
    let batch = files.path().join("batch");
    let lines = (0..4000).map(|i| {
        format!("neigh replace 10.0.1.{} lladdr 02:00:00:00:01:{:02x} dev eth1 nud stale\n", 3 + i % 200, i % 7)
    });
    std::fs::write(&batch, lines.collect::<String>()).unwrap();
    // The end of duplicate address detection is a notification, too: it must not come to the watcher's help later.
    pair.edge.sh("while ip -6 addr show tentative | grep -q inet6; do :; done");
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0", "eth1"]);
        watch.handle.resolve(ips(&["192.0.2.9"]));
        assert_eq!(watch.hop("192.0.2.9").await, Err("no route to 192.0.2.9".into()));
        // This holds the only thread, so that nobody reads: far more than the socket's buffer.
        pair.edge.sh(&format!("ip -batch {}; ip route add blackhole 192.0.2.0/24", batch.display()));
        let full_check = Duration::from_secs(5);
        let answer = tokio::time::timeout(full_check / 2, watch.hop("192.0.2.9")).await;
        let expected = Err("the route to 192.0.2.9 is of type blackhole".into());
        assert_eq!(answer.expect("an answer before the periodic check"), expected);
        watch.stop().await;
    });
}

#[test]
fn spawn_on_a_missing_interface_is_refused_by_name() {
    let pair = Pair::new();
    let error = pair.edge.block_on(async {
        let (sender, _events) = tokio::sync::mpsc::channel(1);
        rollcall::io::net::spawn(vec!["eth0".into(), "nope0".into()], sender).unwrap_err()
    });
    assert!(error.to_string().contains("no interface \"nope0\""), "{error}");
}
