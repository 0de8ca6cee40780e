//! Managed addresses are there, announced, and go only if they are ours.

use std::time::Instant;

use rollcall::io::net::Placement;

use crate::ns::{Namespace, PATIENCE, Pair, Watch};

/// These addresses on the interface.
pub fn on<const N: usize>(interface: &str, addresses: [&str; N]) -> [Placement; N] {
    addresses.map(|a| Placement::new(a.parse().unwrap(), interface))
}

/// What `ip` shows of an address: interface, prefix length, flags and lifetimes in its words; `None` if it is nowhere.
pub fn shown(ns: &Namespace, address: &str) -> Option<String> {
    let all = ns.sh("ip -o addr show");
    let line = all.lines().find(|l| l.contains(&format!(" {address}/")))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn managed_addresses_are_host_addresses_and_never_a_source() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let watch = Watch::start(&["eth0"]);
        let wanted = on("eth0", ["10.0.0.100", "fd00:0::100"]);
        let done = watch.handle.manage_addresses(wanted.clone(), []).await.unwrap();
        assert_eq!((done.ours.clone(), done.added), (wanted.clone().into(), wanted.into()));
        assert_eq!((done.removed.len(), done.foreign, done.failed), (0, vec![], vec![]));
        let (v4, v6) = (shown(&pair.edge, "10.0.0.100").unwrap(), shown(&pair.edge, "fd00::100").unwrap());
        assert!(v4.contains("eth0 inet 10.0.0.100/32"), "{v4}");
        assert!(v6.contains("eth0 inet6 fd00::100/128") && v6.contains("preferred_lft 0sec"), "{v6}");
        assert!(v6.contains("nodad") && v6.contains("deprecated") && !v6.contains("tentative"), "{v6}");
        watch.stop().await;
        assert!(shown(&pair.edge, "10.0.0.100").is_some(), "addresses outlive the watcher");
    });
}

#[test]
fn addresses_of_others_are_reported_and_left_alone() {
    let pair = Pair::new();
    pair.edge.sh("ip addr add 10.0.0.100/32 dev eth1; ip addr add 10.0.0.101/24 dev eth0");
    pair.edge.block_on(async {
        let watch = Watch::start(&["eth0", "eth1"]);
        let wanted = on("eth0", ["10.0.0.100", "10.0.0.101"]);
        let mut done = watch.handle.manage_addresses(wanted, []).await.unwrap();
        done.foreign.sort();
        assert_eq!(done.foreign, [on("eth1", ["10.0.0.100"]), on("eth0", ["10.0.0.101"])].concat());
        assert_eq!((done.ours.len(), done.added.len()), (0, 0));
        let done = watch.handle.manage_addresses([], []).await.unwrap();
        assert!(done.removed.is_empty());
        assert!(shown(&pair.edge, "10.0.0.100").is_some() && shown(&pair.edge, "10.0.0.101").is_some());
    });
}

#[test]
fn addresses_no_longer_wanted_are_removed_if_an_earlier_run_added_them() {
    let pair = Pair::new();
    // As an older kernel would keep it: without our mark.
    pair.edge.sh("ip addr add 10.0.0.102/32 dev eth0; ip addr add 10.0.0.103/32 dev eth0");
    pair.edge.block_on(async {
        let first = Watch::start(&["eth0"]);
        first.handle.manage_addresses(on("eth0", ["10.0.0.100", "10.0.0.101"]), []).await.unwrap();
        first.stop().await;
        let second = Watch::start(&["eth0"]);
        let ours = on("eth0", ["10.0.0.102"]);
        let done = second.handle.manage_addresses(on("eth0", ["10.0.0.101"]), ours).await.unwrap();
        // 10.0.0.100 is known by the mark in the kernel, 10.0.0.102 by the list.
        assert_eq!(done.removed, on("eth0", ["10.0.0.100", "10.0.0.102"]).into());
        assert_eq!(done.ours, on("eth0", ["10.0.0.101"]).into());
        assert!(done.added.is_empty());
        assert!(shown(&pair.edge, "10.0.0.103").is_some());
    });
}

#[test]
fn addresses_wanted_elsewhere_move_there_and_are_answered_for() {
    let pair = Pair::new();
    // One that an older kernel kept without our mark.
    pair.edge.sh("ip addr add 10.0.1.102/32 dev eth0");
    pair.edge.block_on(async {
        let watch = Watch::start(&["eth0", "eth1"]);
        let (vip, pool) = (on("eth0", ["fd00:0::100"]), ["10.0.1.101", "fd00:1::101"]);
        watch.handle.manage_addresses([&vip[..], &on("eth0", pool)].concat(), []).await.unwrap();

        let wanted = [&vip[..], &on("eth1", pool), &on("eth1", ["10.0.1.102"])].concat();
        let moved = watch.handle.manage_addresses(wanted, on("eth0", ["10.0.1.102"])).await.unwrap();
        let (there, here) = (["10.0.1.101", "10.0.1.102", "fd00:1::101"], on("eth0", ["fd00:0::100"]));
        assert_eq!(moved.failed, []);
        assert_eq!((moved.added, moved.removed), (on("eth1", there).into(), on("eth0", there).into()));
        assert_eq!(moved.ours, [&here[..], &on("eth1", there)].concat().into_iter().collect());
        for address in there {
            let all = pair.edge.sh(&format!("ip -o addr show | grep -F ' {address}/'"));
            assert!(all.lines().count() == 1 && all.contains("eth1"), "{all}");
            pair.peer.sh(&format!("ping -c 1 -W 5 -I eth1 {address}"));
        }
    });
}

#[test]
fn address_that_cannot_move_stays_where_it_is_until_it_can() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let watch = Watch::start(&["eth0"]);
        watch.handle.manage_addresses(on("eth0", ["10.0.0.100"]), []).await.unwrap();
        let done = watch.handle.manage_addresses(on("eth7", ["10.0.0.100"]), []).await.unwrap();
        assert_eq!((done.ours, done.removed.len()), (on("eth0", ["10.0.0.100"]).into(), 0));
        assert!(done.failed[0].1.contains("no interface \"eth7\""), "{:?}", done.failed);
        pair.connect(7);
        let end = Instant::now() + PATIENCE;
        while !shown(&pair.edge, "10.0.0.100").is_some_and(|line| line.contains("eth7")) {
            assert!(Instant::now() < end, "still {:?}", shown(&pair.edge, "10.0.0.100"));
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn managed_addresses_that_vanish_are_added_again() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.manage_addresses(on("eth0", ["10.0.0.100", "fd00:0::100"]), []).await.unwrap();
        watch.next().await;
        // Blocking waits would stop the watcher on this one thread.
        let edge = &pair.edge;
        let wait_for = async |address: &'static str, there: bool| {
            let end = Instant::now() + PATIENCE;
            while shown(edge, address).is_some() != there {
                assert!(Instant::now() < end, "{address} there: {}", if there { "no" } else { "yes" });
                tokio::task::yield_now().await;
            }
        };
        edge.sh("ip addr del 10.0.0.100/32 dev eth0");
        wait_for("10.0.0.100", true).await;
        // The kernel drops IPv6 addresses of an interface that goes down.
        edge.sh("ip link set eth0 down; ip link set eth0 up");
        wait_for("fd00::100", true).await;
        edge.sh("ip link del eth0");
        wait_for("fd00::100", false).await;
        pair.connect(0);
        wait_for("10.0.0.100", true).await;
        wait_for("fd00::100", true).await;
    });
}

/// Frames that reach the peer's interface, as a raw socket sees them.
struct Capture(std::os::fd::OwnedFd);

impl Capture {
    fn start(pair: &Pair) -> Self {
        use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType};
        pair.peer.run(|| {
            let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
            let fd = socket::socket(kind.0, kind.1, kind.2, kind.3).unwrap();
            let patience = nix::sys::time::TimeVal::new(1, 0);
            socket::setsockopt(&fd, socket::sockopt::ReceiveTimeout, &patience).unwrap();
            Self(fd)
        })
    }

    /// Collects frames that match until there are `n`, or patience ends.
    fn take(&self, n: usize, matches: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let end = Instant::now() + PATIENCE / 4;
        let mut frames = Vec::new();
        let mut buffer = [0; 2048];
        while frames.len() < n && Instant::now() < end {
            if let Ok(len) = nix::unistd::read(&self.0, &mut buffer)
                && matches(&buffer[..len])
            {
                frames.push(buffer[..len].to_vec());
            }
        }
        frames
    }
}

const ARP: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
    0, 1, 8, 0, 6, 4, 0, 1, // a request for IPv4 on Ethernet
    2, 0, 0, 0, 0, 1, 10, 0, 0, 100, // sender
    0, 0, 0, 0, 0, 0, 10, 0, 0, 100, // target
];

/// The checksum, 0x589d, was computed apart from the code, from big-endian words by RFC 1071's definition.
const ADVERTISEMENT: [u8; 86] = [
    0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 32, 58, 255, // IPv6, hop limit 255
    0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, // from the address itself
    0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // to all nodes
    136, 0, 0x58, 0x9d, 0x20, 0, 0, 0, // neighbour advertisement, override
    0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, // target
    2, 1, 2, 0, 0, 0, 0, 1, // its link-layer address
];

#[test]
fn added_addresses_are_announced_three_times_and_again_when_the_link_returns() {
    let pair = Pair::new();
    let capture = Capture::start(&pair);
    let vips = on("eth0", ["10.0.0.100", "fd00::100"]);
    let is_arp = |f: &[u8]| f[12..14] == [8, 6] && f[28..32] == [10, 0, 0, 100];
    let is_na = |f: &[u8]| {
        f[12..14] == [0x86, 0xdd] && f[20] == 58 && f.get(54) == Some(&136) && f[62..78] == ADVERTISEMENT[62..78]
    };
    let is_ours = |f: &[u8]| f.len() > 41 && (is_arp(f) || is_na(f));
    std::thread::scope(|s| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let edge = &pair.edge;
        let daemon = s.spawn(move || {
            edge.block_on(async {
                let watch = Watch::start(&["eth0"]);
                watch.handle.manage_addresses(vips, []).await.unwrap();
                stopped.await.unwrap();
            });
        });
        for round in ["added", "link back"] {
            let frames = capture.take(6, is_ours);
            let (arps, nas): (Vec<_>, Vec<_>) = frames.into_iter().partition(|f| f[12..14] == [8, 6]);
            assert_eq!(arps, vec![ARP.to_vec(); 3], "{round}");
            assert_eq!(nas, vec![ADVERTISEMENT.to_vec(); 3], "{round}");
            if round == "added" {
                pair.peer.sh("ip link set eth0 down; ip link set eth0 up");
            }
        }
        stop.send(()).unwrap();
        daemon.join().unwrap();
    });
}

#[test]
fn addresses_of_two_interfaces_are_announced_each_on_its_own() {
    let pair = Pair::new();
    let capture = Capture::start(&pair);
    let ours = |f: &[u8]| f.len() > 41 && f[12..14] == [8, 6] && f[28..30] == [10, 0] && f[31] == 100;
    std::thread::scope(|s| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let edge = &pair.edge;
        s.spawn(move || {
            edge.block_on(async {
                let watch = Watch::start(&["eth0", "eth1"]);
                let wanted = [on("eth0", ["10.0.0.100"]), on("eth1", ["10.0.1.100"])].concat();
                watch.handle.manage_addresses(wanted, []).await.unwrap();
                stopped.await.unwrap();
            });
        });
        // The sender's MAC and the third byte of the address both name the interface.
        let mut from: Vec<_> = capture.take(6, ours).iter().map(|f| (f[10], f[30])).collect();
        from.sort();
        assert_eq!(from, [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1)]);
        stop.send(()).unwrap();
    });
}

#[test]
fn announcement_replaces_what_a_neighbour_knew() {
    let pair = Pair::new();
    pair.peer.sh("ip neigh add 10.0.0.100 lladdr 02:00:00:00:00:77 nud stale dev eth0
         ip neigh add fd00::100 lladdr 02:00:00:00:00:77 nud stale dev eth0");
    pair.edge.block_on(async {
        let watch = Watch::start(&["eth0"]);
        watch.handle.manage_addresses(on("eth0", ["10.0.0.100", "fd00::100"]), []).await.unwrap();
        let end = Instant::now() + PATIENCE;
        for address in ["10.0.0.100", "fd00::100"] {
            while !pair.peer.sh(&format!("ip neigh show {address}")).contains("02:00:00:00:00:01") {
                assert!(Instant::now() < end, "{address} is still the old one's");
                tokio::task::yield_now().await;
            }
        }
    });
}
