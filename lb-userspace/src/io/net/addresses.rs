//! The addresses that the daemon manages (VIPs and source addresses): each present on its interface, announced there, and
//! removed again only if it was added from here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::NetError;
use super::claims::{Claims, Holders, Question, Verdict};
use super::links::{Link, Links};

/// Marks what we added in the kernel itself (`IFA_PROTO`, from 5.18; older kernels ignore it), so that an address added
/// just before a crash is still known as ours. Values below 4 are the kernel's own.
const PROTOCOL: u8 = b'r';

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// The address.
    pub address: IpAddr,
    /// The interface that holds it, or is to hold it.
    pub interface: String,
}

impl Placement {
    /// An address on the interface of this name.
    pub fn new(address: IpAddr, interface: impl Into<String>) -> Self {
        Self { address, interface: interface.into() }
    }
}

/// The state of the managed addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Added by this or an earlier run, and present or to return with their interface: to be remembered, and given to
    /// the next run.
    pub ours: BTreeSet<Placement>,
    /// Of `ours`, those added just now.
    pub added: BTreeSet<Placement>,
    /// Removed just now.
    pub removed: BTreeSet<Placement>,
    /// Wanted, and found without our doing, here: left as they are, not announced.
    pub foreign: Vec<Placement>,
    /// Could not be added or removed, and why.
    pub failed: Vec<(IpAddr, String)>,
}

/// What is wanted, and what we did so far.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    wanted: BTreeSet<Placement>,
    ours: BTreeSet<Placement>,
    /// From where each interface's addresses were last announced; none for a link that does not work.
    announced: BTreeMap<String, Origin>,
    /// Whether others have what is missing here.
    claims: Claims,
}

/// A link in one stretch of work. When any of it changes, neighbours may have forgotten or mislearned our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    ifindex: u32,
    mac: [u8; 6],
    carrier_changes: u32,
}

impl Origin {
    /// `None` while the link does not work.
    fn of(link: &Link) -> Option<Self> {
        let mac = link.mac.filter(|_| link.up && link.carrier)?;
        Some(Self { ifindex: link.index, mac, carrier_changes: link.carrier_changes })
    }
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
    pub(super) fn replace(&mut self, wanted: BTreeSet<Placement>, ours: BTreeSet<Placement>) {
        self.wanted = wanted;
        self.ours.extend(ours);
        self.claims.doubt();
    }

    /// Takes in whether other hosts have addresses.
    pub(super) fn answered(&mut self, question: &Question, holders: &Holders) {
        self.claims.answered(question, holders);
    }

    /// Whether there is anything to look after.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.ours.is_empty()
    }

    /// Makes the kernel's addresses as wanted. The announcements are the caller's to send, the questions to ask; what they
    /// are about is not added before the answer.
    pub(super) async fn ensure(
        &mut self,
        handle: &Handle,
        links: &Links,
    ) -> Result<(Managed, Vec<Announcement>, Vec<Question>), NetError> {
        let present: Vec<AddressMessage> = handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| NetError::refused("list the addresses", &e))?;
        let mut result = Managed::default();
        let mut missing = self.wanted.clone();
        let mut surplus = Vec::new();
        for found in present.into_iter().filter_map(Present::parse) {
            let index = found.message.header.index;
            let interface = links.get(index).map_or_else(|| format!("index {index}"), |l| l.name.clone());
            let here = Placement { address: found.address, interface };
            let ours = found.marked || (self.ours.contains(&here) && is_host_prefix(&found));
            if !ours && self.wanted.iter().any(|w| w.address == here.address) {
                missing.retain(|w| w.address != here.address);
                result.foreign.push(here);
            } else if ours && missing.remove(&here) {
                result.ours.insert(here);
            } else if ours {
                surplus.push((here, found.message));
            }
        }
        self.claims.retain(&missing);
        for placement in missing {
            // What we hold on another interface we ask nobody for: this host itself would answer.
            let moves = surplus.iter().any(|(here, _): &(Placement, _)| here.address == placement.address);
            match if moves { Verdict::Add } else { self.claims.verdict(&placement, links) } {
                Verdict::Add => self.add(handle, links, placement, &mut result).await,
                Verdict::Wait => {}
                Verdict::Taken(why) => result.failed.push((placement.address, why)),
            }
        }
        for (placement, message) in surplus {
            remove(handle, placement, message, &mut result).await;
        }
        self.ours.clone_from(&result.ours);
        let announcements = self.announcements(links, &result);
        Ok((result, announcements, self.claims.questions()))
    }

    async fn add(&self, handle: &Handle, links: &Links, placement: Placement, result: &mut Managed) {
        let Placement { address, interface } = &placement;
        let Some(link) = links.by_name(interface) else {
            result.failed.push((*address, NetError::NoInterface(interface.clone()).to_string()));
            // It went with its interface, and returns with it.
            if self.ours.contains(&placement) {
                result.ours.insert(placement);
            }
            return;
        };
        match request(handle, link.index, *address).await {
            Ok(()) => {
                result.added.insert(placement.clone());
                result.ours.insert(placement);
            }
            Err(error) => {
                let why = NetError::refused(format!("add {address} to {interface}"), &error);
                result.failed.push((*address, why.to_string()));
            }
        }
    }

    /// For each interface, its new addresses; all of them when the link came back, or changed its MAC.
    fn announcements(&mut self, links: &Links, result: &Managed) -> Vec<Announcement> {
        let before = std::mem::take(&mut self.announced);
        let interfaces: BTreeSet<&String> = self.wanted.iter().map(|w| &w.interface).collect();
        let mut announcements = Vec::new();
        for interface in interfaces {
            let Some(from) = links.by_name(interface).and_then(Origin::of) else { continue };
            let news = if before.get(interface) == Some(&from) { &result.added } else { &result.ours };
            let here = news.intersection(&self.wanted).filter(|p| p.interface == *interface);
            let addresses: Vec<_> = here.map(|p| p.address).collect();
            if !addresses.is_empty() {
                announcements.push(Announcement { ifindex: from.ifindex, mac: from.mac, addresses });
            }
            self.announced.insert(interface.clone(), from);
        }
        announcements
    }
}

/// Removes an address that is no longer wanted here. One that moves, and could not be added where it belongs, stays: in
/// the wrong place it may still be found, nowhere it cannot.
async fn remove(handle: &Handle, placement: Placement, message: AddressMessage, result: &mut Managed) {
    let Placement { address, interface } = &placement;
    if result.failed.iter().any(|(failed, _)| failed == address) {
        result.ours.insert(placement);
        return;
    }
    match handle.address().del(message).execute().await {
        Ok(()) => {
            result.removed.insert(placement);
        }
        Err(error) => {
            let why = NetError::refused(format!("remove {address} from {interface}"), &error);
            result.failed.push((*address, why.to_string()));
            result.ours.insert(placement);
        }
    }
}

fn is_host_prefix(found: &Present) -> bool {
    found.message.header.prefix_len == if found.address.is_ipv4() { 32 } else { 128 }
}

async fn request(handle: &Handle, ifindex: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
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
