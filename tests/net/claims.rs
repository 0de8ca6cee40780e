//! An IPv4 address that another host has is not added beside it.

use std::time::{Duration, Instant};

use rollcall::io::net::{Managed, NetEvent};

use crate::addresses::{on, shown};
use crate::ns::{Pair, Watch};

/// The next state of the addresses that is told without being asked for.
async fn told(watch: &mut Watch) -> Managed {
    loop {
        if let NetEvent::Addresses(managed) = watch.next().await {
            return managed;
        }
    }
}

#[test]
fn address_that_another_host_has_is_refused_with_its_mac_and_the_others_are_added() {
    let pair = Pair::new();
    pair.peer.sh("ip addr add 10.0.0.100/32 dev eth0; ip addr add fd00::100/128 dev eth0 nodad");
    pair.edge.block_on(async {
        let watch = Watch::start(&["eth0"]);
        let begin = Instant::now();
        let wanted = on("eth0", ["10.0.0.100", "10.0.0.101", "fd00::100"]);
        let done = watch.handle.manage_addresses(wanted.clone(), []).await.unwrap();
        let (free, taken) = (wanted[1..].iter().cloned().collect(), &wanted[0]);
        assert_eq!((&done.added, &done.ours), (&free, &free));
        assert_eq!((done.failed.len(), done.failed[0].0), (1, taken.address));
        let why = &done.failed[0].1;
        assert!(why.contains("another host on eth0 has it: 02:00:00:00:00:02 answers ARP"), "{why}");
        assert_eq!(shown(&pair.edge, "10.0.0.100"), None);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());

        // What is there already is nobody's question.
        pair.peer.sh("ip addr del 10.0.0.100/32 dev eth0; ip addr add 10.0.0.101/32 dev eth0");
        let done = watch.handle.manage_addresses(wanted.clone(), []).await.unwrap();
        assert_eq!((done.failed, done.ours), (vec![], wanted.iter().cloned().collect()));
        assert_eq!(done.added, on("eth0", ["10.0.0.100"]).into());
    });
}

#[test]
fn address_taken_over_by_another_host_stays_there_and_is_told_until_it_is_free_again() {
    let pair = Pair::new();
    pair.edge.block_on(async {
        let mut watch = Watch::start(&["eth0"]);
        watch.handle.manage_addresses(on("eth0", ["10.0.0.100"]), []).await.unwrap();
        pair.peer.sh("ip addr add 10.0.0.100/32 dev eth0");
        pair.edge.sh("ip addr del 10.0.0.100/32 dev eth0");
        let lost = told(&mut watch).await;
        assert!(lost.ours.is_empty() && lost.failed[0].1.contains("another host"), "{lost:?}");
        assert_eq!(shown(&pair.edge, "10.0.0.100"), None);
        pair.peer.sh("ip addr del 10.0.0.100/32 dev eth0");
        let back = told(&mut watch).await;
        assert_eq!((back.ours, back.failed), (on("eth0", ["10.0.0.100"]).into(), vec![]));
        assert!(shown(&pair.edge, "10.0.0.100").is_some());
    });
}
