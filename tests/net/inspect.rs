//! Facts for `doctor` are the kernel's.

use rollcall::io::net::inspect::{self, XdpMode, XdpProgram};

use crate::ns::{Namespace, Pair};

#[test]
fn interface_facts_are_those_of_ip_and_ethtool() {
    let pair = Pair::new();
    pair.edge.sh("ip link set eth0 mtu 1400
         ethtool -K eth0 tx off gro on
         echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter
         echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter");
    pair.edge.block_on(async {
        let eth0 = inspect::interface("eth0").await.unwrap();
        assert_eq!((eth0.mac, eth0.mtu, eth0.up, eth0.carrier), (Some(Pair::mac(0, 1)), 1400, true, true));
        assert_eq!((eth0.driver.as_deref(), eth0.oper_state, eth0.vlan_of), (Some("veth"), "up", None));
        let offloads = (eth0.offloads.tx_checksum, eth0.offloads.gro, eth0.offloads.lro);
        assert_eq!(offloads, (Some(false), Some(true), Some(false)));
        assert!(eth0.channels.is_some_and(|c| c.rx >= 1 && c.max_rx >= c.rx));
        assert_eq!((eth0.rp_filter, eth0.xdp), (Some(2), vec![]));
        if pair.edge.has_vlans() {
            pair.edge.sh("ip link add link eth0 name v5 type vlan id 5");
            assert_eq!(inspect::interface("v5").await.unwrap().vlan_of.as_deref(), Some("eth0"));
        } else {
            lb_tests::skip::record("net inspect::vlan", "this kernel has no 802.1Q VLAN devices (CONFIG_VLAN_8021Q)");
        }
        let error = inspect::interface("nope0").await.unwrap_err();
        assert!(error.to_string().contains("nope0"), "{error}");
    });
}

#[test]
fn xdp_programs_are_reported_with_id_and_mode() {
    let files = tempfile::tempdir().unwrap();
    let pass = ".section xdp,\"ax\",@progbits
        .globl pass
        .type pass,@function
        pass: r0 = 2
        exit
        .size pass, .-pass
        ";
    std::fs::write(files.path().join("pass.s"), pass).unwrap();
    let pair = Pair::new();
    pair.edge.sh(&format!(
        "cd {}
         llvm-mc -triple bpf -filetype=obj -o pass.o pass.s
         ip link set dev eth0 xdpgeneric obj pass.o sec xdp
         ip link set dev eth1 xdpdrv obj pass.o sec xdp",
        files.path().display()
    ));
    pair.edge.block_on(async {
        for (name, mode) in [("eth0", XdpMode::Generic), ("eth1", XdpMode::Native)] {
            let shown = pair.edge.sh(&format!("ip -d link show {name}"));
            let id = shown.split(" prog/xdp id ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(inspect::interface(name).await.unwrap().xdp, [XdpProgram { id, mode }]);
        }
    });
}

#[test]
fn host_facts_are_those_of_sysctl() {
    let ns = Namespace::new();
    ns.sh("echo '10000 20000' > /proc/sys/net/ipv4/ip_local_port_range
         echo '12000-12999,15000' > /proc/sys/net/ipv4/ip_local_reserved_ports");
    let host = ns.run(inspect::host);
    assert_eq!(host.local_ports, Some(10000..=20000));
    assert_eq!(host.reserved_ports, [12000..=12999, 15000..=15000]);
}
