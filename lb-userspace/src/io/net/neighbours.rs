//! The neighbour cache: reading it, and making the kernel ask.
//!
//! The kernel keeps a neighbour fresh only while its own stack sends to it. Frames sent by XDP are invisible to that, so
//! each neighbour in use is probed from here ([`Need::Confirm`]) or asked for by broadcast ([`Need::Solicit`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle};

use super::NetError;

/// A confirmed neighbour is probed again after this time. A server whose MAC changed silently is found after this, three
/// unicast probes and one broadcast: some 14 s.
const CONFIRM_EVERY: Duration = Duration::from_secs(10);
/// A neighbour that did not answer is asked for again after this time (the kernel itself asks three times, a second apart).
const SOLICIT_AGAIN: Duration = Duration::from_secs(2);
/// A stale entry is probed at once, but no more often than this.
const CONFIRM_STALE: Duration = Duration::from_secs(1);

/// An interface's index and an address on it.
pub(super) type Key = (u32, IpAddr);

/// An entry of the kernel's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: NeighbourState,
    /// Zero bytes are no MAC.
    pub(super) mac: Option<[u8; 6]>,
}

/// What a message says about which neighbour.
pub(super) fn parse(message: &NeighbourMessage) -> Option<(Key, Entry)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => address = Some(IpAddr::V6(*a)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().filter(|m| *m != [0; 6]);
            }
            _ => {}
        }
    }
    Some(((message.header.ifindex, address?), Entry { state: message.header.state, mac }))
}

/// Reads the whole cache, both families.
pub(super) async fn read(handle: &Handle) -> Result<HashMap<Key, Entry>, NetError> {
    let messages: Vec<NeighbourMessage> = handle
        .neighbours()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|e| NetError::refused("list the neighbours", &e))?;
    Ok(messages.iter().filter_map(parse).collect())
}

/// What the kernel must be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Ask the known MAC whether it is still there; the entry stays valid meanwhile.
    Confirm,
    /// Ask all who has the address.
    Solicit,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its MAC.
    Mac([u8; 6]),
    /// Asked, no answer yet.
    Pending,
    /// Nobody answered.
    Silent,
}

/// The memory of one neighbour in use, over the states that the kernel's entry goes through.
#[derive(Debug)]
pub(super) struct Tracker {
    known: Known,
    /// A broadcast went out since the MAC was last confirmed.
    soliciting: bool,
    asked: Option<Instant>,
}

impl Tracker {
    pub(super) const fn new() -> Self {
        Self { known: Known::Pending, soliciting: false, asked: None }
    }

    /// Takes the kernel's entry in. The caller carries the need out and marks the entry incomplete after a solicitation:
    /// a failed entry seen later is then a new verdict, not the old one.
    pub(super) fn observe(&mut self, entry: Option<Entry>, now: Instant) -> (Known, Option<Need>) {
        use NeighbourState as S;
        let state = entry.map_or(S::None, |e| e.state);
        let need = match (state, entry.and_then(|e| e.mac)) {
            (S::Permanent | S::Noarp, mac) => {
                self.known = mac.map_or(Known::Silent, Known::Mac);
                None
            }
            (S::Reachable | S::Stale | S::Delay | S::Probe, Some(mac)) => {
                self.known = Known::Mac(mac);
                self.soliciting = false;
                let rest = match state {
                    S::Stale => Some(CONFIRM_STALE),
                    S::Reachable | S::Delay => Some(CONFIRM_EVERY),
                    // Being asked right now.
                    _ => None,
                };
                rest.filter(|rest| self.rested(*rest, now)).map(|_| Need::Confirm)
            }
            (S::Incomplete, _) => None,
            // Unicast probes failed, or there is no entry: others may have the address now, so the old MAC stands until
            // the broadcast has failed, too.
            _ if !self.soliciting => {
                self.soliciting = true;
                Some(Need::Solicit)
            }
            _ => {
                self.known = Known::Silent;
                self.rested(SOLICIT_AGAIN, now).then_some(Need::Solicit)
            }
        };
        if need.is_some() {
            self.asked = Some(now);
        }
        (self.known, need)
    }

    fn rested(&self, rest: Duration, now: Instant) -> bool {
        self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= rest)
    }
}

/// Makes the kernel ask.
pub(super) async fn ask(handle: &Handle, (ifindex, address): Key, need: Need) -> Result<(), Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let create = match need {
        // Without NLM_F_CREATE: if the entry went away meanwhile, this fails and the next look solicits.
        Need::Confirm => {
            message.header.state = NeighbourState::Probe;
            0
        }
        Need::Solicit => {
            message.header.flags = NeighbourFlags::Use;
            NLM_F_CREATE
        }
    };
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | create;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn entry(state: NeighbourState) -> Option<Entry> {
        let mac = !matches!(state, NeighbourState::Incomplete | NeighbourState::Failed);
        Some(Entry { state, mac: mac.then_some(MAC) })
    }

    #[test]
    fn tracker_without_entry_solicits_and_is_silent_only_after_the_verdict() {
        let (mut t, now) = (Tracker::new(), Instant::now());
        assert_eq!(t.observe(None, now), (Known::Pending, Some(Need::Solicit)));
        assert_eq!(t.observe(entry(NeighbourState::Incomplete), now), (Known::Pending, None));
        assert_eq!(t.observe(entry(NeighbourState::Failed), now), (Known::Silent, None));
        let later = now + SOLICIT_AGAIN;
        assert_eq!(t.observe(entry(NeighbourState::Failed), later), (Known::Silent, Some(Need::Solicit)));
        assert_eq!(t.observe(entry(NeighbourState::Incomplete), later), (Known::Silent, None));
        assert_eq!(t.observe(entry(NeighbourState::Reachable), later), (Known::Mac(MAC), None));
    }

    #[test]
    fn tracker_of_a_reachable_neighbour_confirms_it_periodically() {
        let (mut t, now) = (Tracker::new(), Instant::now());
        let reachable = entry(NeighbourState::Reachable);
        assert_eq!(t.observe(reachable, now), (Known::Mac(MAC), Some(Need::Confirm)));
        assert_eq!(t.observe(entry(NeighbourState::Probe), now), (Known::Mac(MAC), None));
        assert_eq!(t.observe(reachable, now + CONFIRM_EVERY / 2), (Known::Mac(MAC), None));
        assert_eq!(t.observe(reachable, now + CONFIRM_EVERY), (Known::Mac(MAC), Some(Need::Confirm)));
    }

    #[test]
    fn tracker_after_failed_unicast_probes_keeps_the_mac_until_the_broadcast_failed() {
        let (mut t, now) = (Tracker::new(), Instant::now());
        t.observe(entry(NeighbourState::Reachable), now);
        assert_eq!(t.observe(entry(NeighbourState::Failed), now), (Known::Mac(MAC), Some(Need::Solicit)));
        assert_eq!(t.observe(entry(NeighbourState::Incomplete), now), (Known::Mac(MAC), None));
        assert_eq!(t.observe(entry(NeighbourState::Failed), now), (Known::Silent, None));
    }

    #[test]
    fn tracker_of_a_permanent_entry_never_asks() {
        let (mut t, now) = (Tracker::new(), Instant::now());
        for after in [Duration::ZERO, CONFIRM_EVERY * 3] {
            assert_eq!(t.observe(entry(NeighbourState::Permanent), now + after), (Known::Mac(MAC), None));
        }
    }
}
