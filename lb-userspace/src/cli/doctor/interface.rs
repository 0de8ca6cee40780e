//! One interface: link, driver and mode, MTU, offloads, other programs.

use super::{bad, ok};
use crate::control::schema::{Attachment, Check, CheckResult};
use crate::io::net::inspect::{Interface, XdpMode};

/// Drivers whose native XDP can also transmit, in kernels from the floor on. A driver that is not listed may still have
/// it: only attaching tells.
const NATIVE: [&str; 26] = [
    "atlantic",
    "bnxt_en",
    "dpaa2-eth",
    "ena",
    "enetc",
    "fsl_dpaa2_eth",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ionic",
    "ixgbe",
    "ixgbevf",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "tun",
    "veth",
    "virtio_net",
];

/// Largest MTU that every listed driver takes in native mode without fragments: one page less headroom and tail.
const SAFE_MTU: u32 = 3498;

pub(super) fn checks(name: &str, found: &Result<Interface, String>, attached: &[Attachment]) -> Vec<Check> {
    let interface = match found {
        Ok(interface) => interface,
        Err(e) => {
            return vec![bad(
                CheckResult::Fail,
                format!("interface {name}"),
                e.clone(),
                "the program has nothing to be attached to",
                "create it, or correct edge.interfaces",
            )];
        }
    };
    let attached = attached.iter().find(|a| a.interface == name);
    let mut checks = vec![link(interface), mode(interface, attached), mtu(interface), programs(interface, attached)];
    checks.extend(offloads(interface));
    checks.extend(veth(interface));
    checks.extend(reverse_path(interface));
    checks
}

fn title(interface: &Interface, what: &str) -> String {
    format!("interface {}: {what}", interface.name)
}

fn link(i: &Interface) -> Check {
    let evidence = format!("{}, carrier {}", i.oper_state, if i.carrier { "yes" } else { "no" });
    if i.mac.is_none() {
        return bad(
            CheckResult::Fail,
            title(i, "link"),
            "it has no Ethernet address",
            "the program rewrites Ethernet frames",
            "name an Ethernet interface in edge.interfaces",
        );
    }
    if i.up && i.carrier {
        return ok(title(i, "link"), evidence);
    }
    bad(
        CheckResult::Fail,
        title(i, "link"),
        evidence,
        "no packet comes in or goes out",
        &format!("ip link set {} up; if it is, look at the cable or the other side", i.name),
    )
}

fn mode(i: &Interface, attached: Option<&Attachment>) -> Check {
    let name = title(i, "native mode");
    let driver = i.driver.as_deref().unwrap_or("unknown");
    let why =
        "generic mode handles each packet after the kernel has built its own structure for it: several times slower";
    if let Some(a) = attached {
        if a.mode == "native" {
            return ok(name, format!("attached natively, driver {driver}"));
        }
        let reason = a.fallback.as_deref().unwrap_or("as configured");
        return bad(
            CheckResult::Warn,
            name,
            format!("attached in {} mode, driver {driver}: {reason}", a.mode),
            why,
            "see the checks of MTU and offloads; or accept it with edge.mode = \"generic\"",
        );
    }
    if let Some(parent) = &i.vlan_of {
        return bad(
            CheckResult::Warn,
            name,
            format!("it is a VLAN on {parent}; VLAN devices have no native mode"),
            why,
            &format!("name {parent} in edge.interfaces: the program reads the tags itself"),
        );
    }
    if NATIVE.contains(&driver) {
        return ok(name, format!("driver {driver} can"));
    }
    bad(
        CheckResult::Warn,
        name,
        format!("driver {driver} is not known to"),
        why,
        "attaching tells for certain: start the daemon, then run doctor again",
    )
}

fn mtu(i: &Interface) -> Check {
    if i.mtu <= SAFE_MTU {
        return ok(title(i, "mtu"), i.mtu.to_string());
    }
    bad(
        CheckResult::Warn,
        title(i, "mtu"),
        format!("{}, above {SAFE_MTU}", i.mtu),
        "most drivers refuse native mode where a packet does not fit one page",
        &format!("ip link set {} mtu 1500, if native mode is refused", i.name),
    )
}

fn programs(i: &Interface, attached: Option<&Attachment>) -> Check {
    let name = title(i, "other programs");
    let ids: Vec<_> = (i.xdp.iter())
        .map(|p| {
            let mode = match p.mode {
                XdpMode::Native => "native",
                XdpMode::Generic => "generic",
                XdpMode::Hardware => "hardware",
            };
            format!("id {} ({mode})", p.id)
        })
        .collect();
    match (ids.is_empty(), attached) {
        (true, None) => ok(name, "none attached"),
        (true, Some(_)) => bad(
            CheckResult::Fail,
            name,
            "ours should be attached, the interface has no program",
            "no packet reaches a backend",
            "restart the daemon; if it comes again, something detaches programs",
        ),
        (false, Some(_)) => ok(name, format!("none besides Rollcall's, {}", ids.join(", "))),
        (false, None) => bad(
            CheckResult::Fail,
            name,
            format!("an XDP program is attached: {}", ids.join(", ")),
            "an interface takes one program, and this one is not of Rollcall's pinned data plane",
            "bpftool prog show id ID names it; stop what attached it, or detach it",
        ),
    }
}

fn offloads(i: &Interface) -> Vec<Check> {
    let mut checks = Vec::new();
    let lro = title(i, "large receive offload");
    match i.offloads.lro {
        Some(true) => checks.push(bad(
            CheckResult::Warn,
            lro,
            "on",
            "native mode refuses it: merged packets do not fit a page",
            &format!("ethtool -K {} lro off", i.name),
        )),
        Some(false) => checks.push(ok(lro, "off")),
        None => {}
    }
    if i.driver.as_deref() == Some("virtio_net") && i.offloads.tx_checksum == Some(true) {
        checks.push(bad(
            CheckResult::Warn,
            title(i, "checksums"),
            "virtio_net with transmit checksum offload on",
            "senders on the same machine leave checksums unfinished; a port that is translated then makes them wrong",
            &format!("on each local sender's side, too: ethtool -K {} tx off", i.name),
        ));
    }
    checks
}

/// Only test set-ups have a veth here. What is to be done is on its far end, which cannot be seen from this side.
fn veth(i: &Interface) -> Option<Check> {
    (i.driver.as_deref() == Some("veth")).then(|| {
        bad(
            CheckResult::Warn,
            title(i, "veth"),
            "fit for tests, if its far end is prepared",
            "a far end without XDP drops what is sent back (XDP_TX), and without GRO what is redirected, too; senders with \
             checksum offload leave checksums unfinished, which translation then makes wrong",
            "on the far end: attach any XDP program that passes all, or, where packets are only redirected to it, \
             `ethtool -K DEVICE gro on`; on each sender: `ethtool -K DEVICE tx off`",
        )
    })
}

fn reverse_path(i: &Interface) -> Option<Check> {
    (i.rp_filter == Some(1)).then(|| {
        bad(
            CheckResult::Warn,
            title(i, "reverse path filter"),
            "strict",
            "balanced packets never meet it, but what passes to this host does: asymmetric routes lose packets there",
            &format!("sysctl -w net.ipv4.conf.{}.rp_filter=2, if routes are asymmetric", i.name),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::net::inspect::{Offloads, XdpProgram};

    fn interface() -> Interface {
        Interface {
            name: "eth0".into(),
            ifindex: 2,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier: true,
            oper_state: "up",
            vlan_of: None,
            driver: Some("ice".into()),
            offloads: Offloads { tx_checksum: Some(true), lro: Some(false), gro: Some(true), rx_vlan: Some(false) },
            channels: None,
            rp_filter: Some(0),
            xdp: vec![],
        }
    }

    fn attachment(mode: &str) -> Attachment {
        Attachment { interface: "eth0".into(), ifindex: 2, mode: mode.into(), fallback: Some("driver refused".into()) }
    }

    fn troubles(interface: Interface) -> Vec<(String, CheckResult)> {
        let checks = checks("eth0", &Ok(interface), &[]);
        checks.into_iter().filter(|c| c.result != CheckResult::Ok).map(|c| (c.name, c.result)).collect()
    }

    fn one(what: &str, result: CheckResult) -> Vec<(String, CheckResult)> {
        vec![(format!("interface eth0: {what}"), result)]
    }

    #[test]
    fn interface_in_order_has_only_ok() {
        assert_eq!(troubles(interface()), []);
    }

    #[test]
    fn each_trouble_is_found_by_its_own_check() {
        let i = interface;
        assert_eq!(troubles(Interface { carrier: false, ..i() }), one("link", CheckResult::Fail));
        assert_eq!(troubles(Interface { mac: None, ..i() }), one("link", CheckResult::Fail));
        assert_eq!(troubles(Interface { mtu: 9000, ..i() }), one("mtu", CheckResult::Warn));
        assert_eq!(troubles(Interface { driver: Some("r8169".into()), ..i() }), one("native mode", CheckResult::Warn));
        assert_eq!(troubles(Interface { vlan_of: Some("eth1".into()), ..i() }), one("native mode", CheckResult::Warn));
        assert_eq!(troubles(Interface { driver: Some("veth".into()), ..i() }), one("veth", CheckResult::Warn));
        let virtio = Some("virtio_net".into());
        assert_eq!(troubles(Interface { driver: virtio, ..i() }), one("checksums", CheckResult::Warn));
        assert_eq!(troubles(Interface { rp_filter: Some(1), ..i() }), one("reverse path filter", CheckResult::Warn));
        let lro = Offloads { lro: Some(true), ..i().offloads };
        assert_eq!(troubles(Interface { offloads: lro, ..i() }), one("large receive offload", CheckResult::Warn));
        let xdp = vec![XdpProgram { id: 42, mode: XdpMode::Generic }];
        assert_eq!(troubles(Interface { xdp, ..i() }), one("other programs", CheckResult::Fail));
    }

    #[test]
    fn missing_interface_fails_with_the_kernels_words() {
        let checks = checks("eth9", &Err("there is no interface \"eth9\"".into()), &[]);
        assert_eq!(checks.len(), 1);
        assert_eq!(
            (checks[0].result, checks[0].evidence.as_str()),
            (CheckResult::Fail, "there is no interface \"eth9\"")
        );
    }

    #[test]
    fn mode_that_really_attached_goes_before_what_the_driver_could() {
        let generic = mode(&interface(), Some(&attachment("generic")));
        assert_eq!(generic.result, CheckResult::Warn);
        assert!(generic.evidence.contains("driver refused"), "{}", generic.evidence);
        let unknown = Interface { driver: None, ..interface() };
        assert_eq!(mode(&unknown, Some(&attachment("native"))).result, CheckResult::Ok);
    }

    #[test]
    fn program_that_a_dead_daemon_left_is_no_other() {
        let own = Interface { xdp: vec![XdpProgram { id: 7, mode: XdpMode::Native }], ..interface() };
        let left = checks("eth0", &Ok(own), &[attachment("native")]);
        assert!(left.iter().all(|c| c.result == CheckResult::Ok), "{left:?}");
    }

    #[test]
    fn own_program_is_no_other_and_a_missing_one_fails() {
        let attached = attachment("native");
        let own = Interface { xdp: vec![XdpProgram { id: 7, mode: XdpMode::Native }], ..interface() };
        assert_eq!(programs(&own, Some(&attached)).result, CheckResult::Ok);
        assert_eq!(programs(&interface(), Some(&attached)).result, CheckResult::Fail);
    }
}
