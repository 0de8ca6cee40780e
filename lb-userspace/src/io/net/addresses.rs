//! The addresses that the daemon manages (VIPs and source addresses): present on the interface, announced, and removed
//! again only if they were added from here.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::NetError;
use super::links::{Link, Links};

/// Marks what we added in the kernel itself (`IFA_PROTO`, from 5.18; older kernels ignore it), so that an address added
/// just before a crash is still known as ours. Values below 4 are the kernel's own.
const PROTOCOL: u8 = b'r';

/// The state of the managed addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Added by this or an earlier run and present: to be remembered, and given to the next run.
    pub ours: BTreeSet<IpAddr>,
    /// Of `ours`, those added just now.
    pub added: BTreeSet<IpAddr>,
    /// Removed just now.
    pub removed: BTreeSet<IpAddr>,
    /// Wanted, and found on an interface (named) without our doing: left as they are, not announced.
    pub foreign: Vec<(IpAddr, String)>,
    /// Could not be added or removed, and why.
    pub failed: Vec<(IpAddr, String)>,
}

/// What is wanted, and what we did so far.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    interface: String,
    wanted: BTreeSet<IpAddr>,
    ours: BTreeSet<IpAddr>,
    /// From where the addresses were last announced; `None` while the link does not work.
    announced: Option<Origin>,
}

/// A link in one stretch of work. When any of it changes, neighbours may have forgotten or mislearned our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    ifindex: u32,
    mac: [u8; 6],
    carrier_changes: u32,
}

/// What is to be announced, and from where.
pub(super) struct Announcement {
    pub(super) ifindex: u32,
    pub(super) mac: [u8; 6],
    pub(super) addresses: Vec<IpAddr>,
}

/// An address in the kernel.
struct Present {
    address: IpAddr,
    message: AddressMessage,
    marked: bool,
}

impl Present {
    fn parse(message: AddressMessage) -> Option<Self> {
        let (mut local, mut peer, mut marked) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(a) => local = Some(*a),
                AddressAttribute::Address(a) => peer = Some(*a),
                AddressAttribute::Protocol(p) => marked = *p == AddressProtocol::Other(PROTOCOL),
                _ => {}
            }
        }
        // A point-to-point address carries the peer's as `Address`; plain IPv6 ones have no `Local`.
        Some(Self { address: local.or(peer)?, message, marked })
    }
}

impl Addresses {
    pub(super) fn replace(&mut self, interface: String, wanted: BTreeSet<IpAddr>, ours: BTreeSet<IpAddr>) {
        if self.interface != interface {
            self.announced = None;
        }
        self.interface = interface;
        self.wanted = wanted;
        self.ours.extend(ours);
    }

    /// Whether there is anything to look after.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.ours.is_empty()
    }

    /// Makes the kernel's addresses as wanted. The announcement is the caller's to send.
    pub(super) async fn ensure(
        &mut self,
        handle: &Handle,
        links: &Links,
    ) -> Result<(Managed, Option<Announcement>), NetError> {
        let link = links.by_name(&self.interface).ok_or_else(|| NetError::NoInterface(self.interface.clone()))?;
        let present: Vec<AddressMessage> = handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| NetError::refused("list the addresses", &e))?;
        let mut result = Managed::default();
        let mut missing = self.wanted.clone();
        for found in present.into_iter().filter_map(Present::parse) {
            let address = found.address;
            let index = found.message.header.index;
            let ours = found.marked || (self.ours.contains(&address) && is_host_prefix(&found));
            match (ours, self.wanted.contains(&address)) {
                (true, true) if index == link.index => {
                    missing.remove(&address);
                    result.ours.insert(address);
                }
                // No longer wanted, or wanted on another interface now.
                (true, _) => match handle.address().del(found.message).execute().await {
                    Ok(()) => drop(result.removed.insert(address)),
                    Err(error) => {
                        let why = NetError::refused(format!("remove {address}"), &error);
                        result.ours.insert(address);
                        result.failed.push((address, why.to_string()));
                    }
                },
                (false, true) => {
                    missing.remove(&address);
                    let name = links.get(index).map_or_else(|| format!("index {index}"), |l| l.name.clone());
                    result.foreign.push((address, name));
                }
                (false, false) => {}
            }
        }
        for address in missing {
            match add(handle, link.index, address).await {
                Ok(()) => {
                    result.added.insert(address);
                    result.ours.insert(address);
                }
                Err(error) => {
                    let why = NetError::refused(format!("add {address} to {}", link.name), &error);
                    result.failed.push((address, why.to_string()));
                }
            }
        }
        self.ours.clone_from(&result.ours);
        let announcement = self.announcement(link, &result);
        Ok((result, announcement))
    }

    /// New addresses; all of them when the link came back, or changed its MAC.
    fn announcement(&mut self, link: &Link, result: &Managed) -> Option<Announcement> {
        let works = link.mac.filter(|_| link.up && link.carrier);
        let from = works.map(|mac| Origin { ifindex: link.index, mac, carrier_changes: link.carrier_changes });
        let whole = from != self.announced;
        self.announced = from;
        let Origin { ifindex, mac, .. } = from?;
        let addresses: Vec<_> = if whole { &result.ours } else { &result.added }.iter().copied().collect();
        (!addresses.is_empty()).then_some(Announcement { ifindex, mac, addresses })
    }
}

fn is_host_prefix(found: &Present) -> bool {
    found.message.header.prefix_len == if found.address.is_ipv4() { 32 } else { 128 }
}

async fn add(handle: &Handle, ifindex: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
    let prefix_len = if address.is_ipv4() { 32 } else { 128 };
    let mut request = handle.address().add(ifindex, address, prefix_len);
    let message = request.message_mut();
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    if address.is_ipv6() {
        // No duplicate address detection: it would keep the address silent for a second or more, and a former holder may
        // still be there. Deprecated from the start: never chosen as a source for the host's own connections.
        message.header.flags |= AddressHeaderFlags::Nodad;
        let mut life = CacheInfo::default();
        (life.ifa_preferred, life.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(life));
    }
    request.execute().await
}
