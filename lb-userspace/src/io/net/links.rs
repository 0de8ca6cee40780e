//! The links of the namespace, read whole from the kernel: a table by index, and what of it concerns the attached ones.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use lb_common::abi::{Hop, MAX_LINKS};
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State, VlanProtocol,
};

use super::NetError;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// `None` where it has none of six bytes (tunnels, `wg`).
    pub(super) mac: Option<[u8; 6]>,
    pub(super) mtu: u32,
    /// Switched on by the administrator.
    pub(super) up: bool,
    /// The lower layer works.
    pub(super) carrier: bool,
    /// How often the carrier came or went: shows what happened between two looks.
    pub(super) carrier_changes: u32,
    pub(super) oper_state: &'static str,
    pub(super) vlan: Option<Vlan>,
}

/// A VLAN device's place on its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    pub(super) parent: u32,
    pub(super) id: u16,
    /// 802.1ad instead of 802.1Q.
    pub(super) service_tag: bool,
}

/// All links by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links(HashMap<u32, Link>);

impl Links {
    /// Reads them from the kernel.
    pub(super) async fn read(handle: &Handle) -> Result<Self, NetError> {
        let messages: Vec<LinkMessage> = handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| NetError::refused("list the interfaces", &e))?;
        Ok(messages.iter().map(Link::parse).collect())
    }

    pub(super) fn get(&self, index: u32) -> Option<&Link> {
        self.0.get(&index)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Link> {
        self.0.values().find(|l| l.name == name)
    }

    /// The MACs of all of them.
    pub(super) fn all_macs(&self) -> Vec<[u8; 6]> {
        self.0.values().filter_map(|l| l.mac).collect()
    }

    /// The MACs of these interfaces as the program compares them.
    pub(super) fn macs(&self, interfaces: &[String]) -> [u64; MAX_LINKS] {
        let mut macs = [0; MAX_LINKS];
        for (word, name) in macs.iter_mut().zip(interfaces) {
            if let Some(mac) = self.by_name(name).and_then(|l| l.mac) {
                *word = Hop::new(mac, [0; 6], 0).dst;
            }
        }
        macs
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        Self(links.into_iter().map(|l| (l.index, l)).collect())
    }
}

impl Link {
    pub(super) fn parse(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            carrier_changes: 0,
            oper_state: "unknown",
            vlan: None,
        };
        let (mut parent, mut id, mut service_tag) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::CarrierChanges(n) => link.carrier_changes = *n,
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::OperState(state) => link.oper_state = oper_state(*state),
                LinkAttribute::Link(index) => parent = Some(*index),
                LinkAttribute::LinkInfo(infos) => {
                    let vlan = infos.iter().find_map(|i| match i {
                        LinkInfo::Data(InfoData::Vlan(vlan)) => Some(vlan),
                        _ => None,
                    });
                    for info in vlan.into_iter().flatten() {
                        match info {
                            InfoVlan::Id(v) => id = Some(*v),
                            InfoVlan::Protocol(p) => service_tag = *p == VlanProtocol::Ieee8021Ad,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link.vlan = parent.zip(id).map(|(parent, id)| Vlan { parent, id, service_tag });
        link
    }
}

/// The name that `ip link` prints, in small letters.
fn oper_state(state: State) -> &'static str {
    match state {
        State::NotPresent => "not present",
        State::Down => "down",
        State::LowerLayerDown => "lower layer down",
        State::Testing => "testing",
        State::Dormant => "dormant",
        State::Up => "up",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::InfoKind;

    use super::*;

    #[test]
    fn vlan_device_is_parsed_with_its_parent_and_tag() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        let tag = vec![InfoVlan::Id(291), InfoVlan::Protocol(VlanProtocol::Ieee8021Q)];
        message.attributes = vec![
            LinkAttribute::IfName("v291".into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::Link(3),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(tag))]),
        ];
        let link = Link::parse(&message);
        assert_eq!(link.vlan, Some(Vlan { parent: 3, id: 291, service_tag: false }));
        assert_eq!((link.index, link.name.as_str(), link.up, link.carrier), (7, "v291", true, true));
    }

    #[test]
    fn veth_with_a_peer_index_is_no_vlan() {
        let mut message = LinkMessage::default();
        message.attributes =
            vec![LinkAttribute::Link(3), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)])];
        assert_eq!(Link::parse(&message).vlan, None);
    }
}
