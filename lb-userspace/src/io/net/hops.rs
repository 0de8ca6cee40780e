//! From a route, the links and a neighbour to the next hop that the program writes into frames. Pure.

use std::net::IpAddr;

use lb_common::abi::Hop;

use super::links::{Link, Links};
use super::neighbours::{Key, Known};
use super::routes::Route;

/// The way to a neighbour: everything of a next hop but the destination MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Whose MAC is wanted.
    pub(super) neighbour: Key,
    /// The route's interface, for messages.
    interface: String,
    /// The interface that the frame is sent on: the route's, or the parent of a VLAN.
    ifindex: u32,
    source: [u8; 6],
    /// VLAN TCI; 0 for none.
    tci: u16,
    /// Largest packet that the interfaces take, bytes.
    mtu: u32,
}

/// Finds the way, or says why frames cannot go there.
pub(super) fn way(address: IpAddr, route: Route, links: &Links, attached: &[String]) -> Result<Way, String> {
    let out = links.get(route.ifindex).ok_or_else(|| {
        format!("the route to {address} leaves by an interface that is gone (index {})", route.ifindex)
    })?;
    let (port, tci) = egress(address, out, links, attached)?;
    for link in [out, port] {
        if !link.up {
            return Err(format!("{} is down, and the route to {address} leaves by it", link.name));
        }
        if !link.carrier {
            return Err(format!("{} has no carrier, and the route to {address} leaves by it", link.name));
        }
    }
    let source = port.mac.ok_or_else(|| format!("{} has no MAC address; it is no Ethernet interface", port.name))?;
    // The neighbour answers to the VLAN's MAC, and the program takes frames for the attached interface's MAC only.
    if out.mac != port.mac {
        return Err(format!("{} and {} differ in their MAC addresses; give both the same", out.name, port.name));
    }
    let neighbour = (out.index, route.neighbour);
    Ok(Way { neighbour, interface: out.name.clone(), ifindex: port.index, source, tci, mtu: out.mtu.min(port.mtu) })
}

/// The attached interface that a route's frames are sent on, and their tag.
fn egress<'a>(
    address: IpAddr,
    out: &'a Link,
    links: &'a Links,
    attached: &[String],
) -> Result<(&'a Link, u16), String> {
    if attached.contains(&out.name) {
        return Ok((out, 0));
    }
    let parent = out.vlan.and_then(|vlan| Some((vlan, links.get(vlan.parent)?)));
    match parent.filter(|(_, parent)| attached.contains(&parent.name)) {
        Some((vlan, parent)) if vlan.service_tag => Err(format!(
            "route to {address} leaves by {}, an 802.1ad VLAN on {}; only 802.1Q is supported",
            out.name, parent.name
        )),
        Some((vlan, parent)) => Ok((parent, vlan.id)),
        None => Err(format!(
            "route to {address} leaves by {}, which is not among [edge] interfaces ({})",
            out.name,
            attached.join(", ")
        )),
    }
}

impl Way {
    /// The next hop, or why there is none; `None` while the neighbour has not answered yet.
    pub(super) fn hop(&self, known: Known) -> Option<Result<Hop, String>> {
        match known {
            Known::Mac(mac) => {
                let mut hop = Hop::new(mac, self.source, self.ifindex).with_mtu(self.mtu);
                hop.dst |= u64::from(self.tci.to_be()) << 48;
                Some(Ok(hop))
            }
            Known::Pending => None,
            Known::Silent => {
                let (_, neighbour) = self.neighbour;
                let protocol = if neighbour.is_ipv4() { "ARP" } else { "neighbour discovery" };
                Some(Err(format!("no answer to {protocol} for {neighbour} on {}", self.interface)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::links::Vlan;
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: Some(MAC),
            mtu: 1500,
            up: true,
            carrier: true,
            carrier_changes: 0,
            oper_state: "up",
            vlan: None,
        }
    }

    fn vlan(service_tag: bool) -> Link {
        Link { vlan: Some(Vlan { parent: 2, id: 0x123, service_tag }), ..link(3, "eth0.291") }
    }

    fn find(out: u32, links: Vec<Link>) -> Result<Way, String> {
        let address = "10.0.0.9".parse().unwrap();
        let route = Route { neighbour: address, ifindex: out };
        way(address, route, &links.into_iter().collect(), &["eth0".into()])
    }

    #[test]
    fn hop_on_an_attached_interface_is_untagged() {
        let hop = find(2, vec![link(2, "eth0")]).unwrap().hop(Known::Mac(PEER));
        assert_eq!(hop, Some(Ok(Hop::new(PEER, MAC, 2).with_mtu(1500))));
    }

    #[test]
    fn hop_on_a_vlan_leaves_by_the_parent_with_the_tag_in_network_order() {
        let way = find(3, vec![link(2, "eth0"), Link { mtu: 1400, ..vlan(false) }]).unwrap();
        assert_eq!(way.neighbour, (3, "10.0.0.9".parse().unwrap()));
        let hop = way.hop(Known::Mac(PEER)).unwrap().unwrap();
        assert_eq!((hop.ifindex(), hop.dst_mac(), hop.src_mac()), (2, PEER, MAC));
        assert_eq!(hop.dst.to_le_bytes()[6..], [0x01, 0x23]);
        assert_eq!(hop.src.to_le_bytes()[6..], [0, 0]);
        assert_eq!(hop.mtu(), 1400, "the smaller of both");
    }

    #[test]
    fn way_that_frames_cannot_take_is_refused_with_the_reason() {
        let cases: Vec<(u32, Vec<Link>, &str)> = vec![
            (7, vec![], "gone (index 7)"),
            (4, vec![link(4, "eth9")], "leaves by eth9, which is not among [edge] interfaces (eth0)"),
            (3, vec![link(2, "eth0"), vlan(true)], "802.1ad VLAN on eth0"),
            (2, vec![Link { up: false, ..link(2, "eth0") }], "eth0 is down"),
            (2, vec![Link { carrier: false, ..link(2, "eth0") }], "eth0 has no carrier"),
            (2, vec![Link { mac: None, ..link(2, "eth0") }], "no Ethernet interface"),
            (3, vec![link(2, "eth0"), Link { mac: Some(PEER), ..vlan(false) }], "differ in their MAC"),
        ];
        for (out, links, expected) in cases {
            let error = find(out, links).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
