//! Facts about interfaces and the host for `doctor`. Judges nothing: what a fact means is the reader's business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};

use super::claims::Question;
pub use super::ethtool::{Channels, Offloads};
use super::links::{Link, Links};
use super::{NetError, ethtool};

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MAC address, if it is an Ethernet interface.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Switched on by the administrator.
    pub up: bool,
    /// The lower layer works.
    pub carrier: bool,
    /// Operational state as `ip link` has it, in small letters.
    pub oper_state: &'static str,
    /// The parent's name, if it is a VLAN device.
    pub vlan_of: Option<String>,
    /// The driver's name, if it says.
    pub driver: Option<String>,
    /// Offloads.
    pub offloads: Offloads,
    /// Queues, if the driver says.
    pub channels: Option<Channels>,
    /// Reverse path filter in force, IPv4: 0 off, 1 strict, 2 loose. The larger of the interface's and `all`.
    pub rp_filter: Option<u8>,
    /// XDP programs on it.
    pub xdp: Vec<XdpProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// Its id in the kernel.
    pub id: u32,
    /// Where it runs.
    pub mode: XdpMode,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// After the kernel built its packet structure.
    Generic,
    /// In the device.
    Hardware,
}

/// Settings of the whole host (of this network namespace).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `net.ipv4.ip_local_port_range`: ports of outgoing connections.
    pub local_ports: Option<RangeInclusive<u16>>,
    /// `net.ipv4.ip_local_reserved_ports`: ports kept out of that range.
    pub reserved_ports: Vec<RangeInclusive<u16>>,
}

/// Looks at one interface. Needs a tokio runtime, no privilege.
pub async fn interface(name: &str) -> Result<Interface, NetError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::Open)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    // Listed and filtered rather than asked for by name: a missing interface is then no error of the kernel's.
    let links = Links::read(&handle).await?;
    let link = links.by_name(name).ok_or_else(|| NetError::NoInterface(name.to_owned()))?;
    let message = handle
        .link()
        .get()
        .match_index(link.index)
        .execute()
        .try_next()
        .await
        .map_err(|e| NetError::refused(format!("look at {name}"), &e))?
        .ok_or_else(|| NetError::NoInterface(name.to_owned()))?;
    let Link { index, mac, mtu, up, carrier, oper_state, vlan, .. } = Link::parse(&message);
    let device = ethtool::Device::new(name).map_err(NetError::Open)?;
    Ok(Interface {
        name: name.to_owned(),
        ifindex: index,
        mac,
        mtu,
        up,
        carrier,
        oper_state,
        vlan_of: vlan.and_then(|v| links.get(v.parent)).map(|l| l.name.clone()),
        driver: device.driver(),
        offloads: device.offloads(),
        channels: device.channels(),
        rp_filter: rp_filter(name).max(rp_filter("all")),
        xdp: message.attributes.iter().flat_map(programs).collect(),
    })
}

/// Which of these addresses another host on the interface answers for, with its MAC. Needs CAP_NET_RAW; takes less than a
/// second.
pub async fn holders(interface: &str, addresses: BTreeSet<Ipv4Addr>) -> Result<BTreeMap<Ipv4Addr, [u8; 6]>, NetError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::Open)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let links = Links::read(&handle).await?;
    let Some(mut question) = Question::new(interface, &links) else { return Ok(BTreeMap::new()) };
    question.addresses = addresses;
    question.try_ask().await.map_err(NetError::Open)
}

fn programs(attribute: &LinkAttribute) -> Vec<XdpProgram> {
    let LinkAttribute::Xdp(xdp) = attribute else { return Vec::new() };
    let attached = xdp.iter().find_map(|x| if let LinkXdp::Attached(a) = x { Some(a) } else { None });
    let mut programs: Vec<XdpProgram> = Vec::new();
    for item in xdp {
        let (id, mode) = match (item, attached) {
            (LinkXdp::DrvProgId(id), _) | (LinkXdp::ProgId(id), Some(XdpAttached::Driver)) => (*id, XdpMode::Native),
            (LinkXdp::SkbProgId(id), _) | (LinkXdp::ProgId(id), Some(XdpAttached::SocketBuffer)) => {
                (*id, XdpMode::Generic)
            }
            (LinkXdp::HwProgId(id), _) | (LinkXdp::ProgId(id), Some(XdpAttached::Hardware)) => (*id, XdpMode::Hardware),
            _ => continue,
        };
        let program = XdpProgram { id, mode };
        if id != 0 && !programs.contains(&program) {
            programs.push(program);
        }
    }
    programs
}

/// Looks at the host's settings.
pub fn host() -> Host {
    Host {
        local_ports: sysctl("ip_local_port_range").and_then(|text| {
            let mut ports = text.split_whitespace().map(str::parse);
            Some(ports.next()?.ok()?..=ports.next()?.ok()?)
        }),
        reserved_ports: sysctl("ip_local_reserved_ports").map(|text| port_list(&text)).unwrap_or_default(),
    }
}

/// `8080,9148-9200`, as the kernel prints it.
fn port_list(text: &str) -> Vec<RangeInclusive<u16>> {
    let items = text.trim().split(',');
    items
        .filter_map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .collect()
}

fn rp_filter(interface: &str) -> Option<u8> {
    sysctl(&format!("conf/{interface}/rp_filter"))?.trim().parse().ok()
}

fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_list_of_single_ports_and_ranges_is_read_whole() {
        assert_eq!(port_list("8080,9148-9200\n"), [8080..=8080, 9148..=9200]);
        assert_eq!(port_list("\n"), []);
    }
}
