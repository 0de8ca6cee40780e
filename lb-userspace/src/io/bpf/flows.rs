//! Listing flows. A flow is its reverse entry, which exists for the whole of its life; its forward entry, if it has one
//! yet, only adds when the client was last heard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;

use aya::Pod;
use aya::maps::{HashMap, MapData};
use lb_common::abi::{Flow, FlowKey};
use lb_common::conntrack::{Direction, Phase, State};

use super::error::BpfError;
use super::types::FlowRecord;
use super::{DataPlane, addr, batch};
use crate::config::model::Protocol;

/// Which flows. `None` is no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Of these service ids.
    pub services: Option<BTreeSet<u32>>,
    /// Of these member ids.
    pub members: Option<BTreeSet<u32>>,
    /// From this client.
    pub client: Option<IpAddr>,
    /// In this phase.
    pub phase: Option<Phase>,
    /// At most so many.
    pub limit: usize,
}

impl FlowFilter {
    pub(super) fn admits(&self, flow: &FlowRecord) -> bool {
        self.services.as_ref().is_none_or(|ids| ids.contains(&flow.service))
            && self.members.as_ref().is_none_or(|ids| ids.contains(&flow.member))
            && self.client.is_none_or(|client| client == flow.client.ip())
            && self.phase.is_none_or(|phase| phase == flow.phase)
    }
}

/// Now, in the units of flow records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    jiffies: u64,
    coarse_shift: u32,
    hz: u32,
}

impl Now {
    /// Since a moment given as the low 32 bits of jiffies.
    pub(super) fn since(&self, moment: u32) -> u64 {
        self.ms(u64::from(forward(moment, self.jiffies as u32)))
    }

    /// Since a moment given in coarse units.
    pub(super) fn since_coarse(&self, moment: u32) -> u64 {
        let units = forward(moment, (self.jiffies >> self.coarse_shift) as u32);
        self.ms(u64::from(units) << self.coarse_shift)
    }

    fn ms(&self, jiffies: u64) -> u64 {
        jiffies.saturating_mul(1000) / u64::from(self.hz.max(1))
    }
}

/// From `moment` to `now` on a clock that wraps around. Packets go on while flows are read, so a moment may lie a little
/// ahead: that is 0.
fn forward(moment: u32, now: u32) -> u32 {
    let elapsed = now.wrapping_sub(moment);
    if elapsed > u32::MAX - (1 << 16) { 0 } else { elapsed }
}

impl DataPlane {
    /// Flows that match, at most `filter.limit`, in no order; the flag says whether more matched.
    pub fn flows(&self, filter: &FlowFilter) -> Result<(Vec<FlowRecord>, bool), BpfError> {
        let settings = self.maps.settings.get(&0, 0).map_err(|e| BpfError::kernel("cannot read SETTINGS", &e))?;
        let clock = self.collect(1)?;
        let now = Now { jiffies: clock.jiffies, coarse_shift: settings.coarse_shift.min(31), hz: self.meta.hz };
        let mut found = Vec::new();
        let more = self.list(&self.maps.flows4, addr::v4, now, filter, &mut found)?
            || self.list(&self.maps.flows6, addr::v6, now, filter, &mut found)?
            || self.direct_flows(now, filter, &mut found)?;
        Ok((found, more))
    }

    /// Those of `sources` that are the source address of a flow, in whatever phase.
    pub fn sources_in_use(&self, sources: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, BpfError> {
        let mut used = BTreeSet::new();
        seek(&self.maps.flows4, addr::v4, sources, &mut used)?;
        seek(&self.maps.flows6, addr::v6, sources, &mut used)?;
        Ok(used)
    }

    /// Flows that are open now, by member id: counted in the tables, where the counters say it too.
    pub fn active_by_member(&self) -> Result<BTreeMap<u32, u64>, BpfError> {
        let mut active = BTreeMap::new();
        count(&self.maps.flows4, &mut active)?;
        count(&self.maps.flows6, &mut active)?;
        self.active_direct(&mut active)?;
        Ok(active)
    }

    fn list<A: Copy + 'static>(
        &self,
        map: &HashMap<MapData, FlowKey<A>, Flow<A>>,
        ip: fn(A) -> IpAddr,
        now: Now,
        filter: &FlowFilter,
        found: &mut Vec<FlowRecord>,
    ) -> Result<bool, BpfError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let mut more = false;
        batch::for_each(map, |key, flow| {
            let Some(mut record) = record(&key, &flow, ip, now).filter(|r| filter.admits(r)) else {
                return ControlFlow::Continue(());
            };
            if found.len() >= filter.limit {
                more = true;
                return ControlFlow::Break(());
            }
            // Gone meanwhile, or still in its half-open slot: then the reverse entry's word stands.
            if let Ok(other) = map.get(&forward_key(&key, &flow), 0)
                && other.direction == Direction::Forward as u32
                && other.member == flow.member
            {
                record.idle_ms = record.idle_ms.min(now.since_coarse(other.last_seen));
            }
            found.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(more)
    }
}

/// Adds to `used` what of `sources` the reverse entries of a map are addressed to, until nothing is left to find.
fn seek<A: Copy + 'static>(
    map: &HashMap<MapData, FlowKey<A>, Flow<A>>,
    ip: fn(A) -> IpAddr,
    sources: &BTreeSet<IpAddr>,
    used: &mut BTreeSet<IpAddr>,
) -> Result<(), BpfError>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    batch::for_each(map, |key, flow| {
        let source = ip(key.dst);
        if flow.direction == Direction::Reverse as u32 && sources.contains(&source) {
            used.insert(source);
        }
        if used.len() == sources.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// Adds the open flows of a map, each of which has one reverse entry.
fn count<A: Copy + 'static>(
    map: &HashMap<MapData, FlowKey<A>, Flow<A>>,
    active: &mut BTreeMap<u32, u64>,
) -> Result<(), BpfError>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    batch::for_each(map, |_, flow| {
        if flow.direction == Direction::Reverse as u32 && State(flow.state).is_active() {
            *active.entry(flow.member).or_default() += 1;
        }
        ControlFlow::Continue(())
    })
}

/// The key of the packets from the client: what the reverse entry rewrites to, turned round.
fn forward_key<A: Copy>(key: &FlowKey<A>, flow: &Flow<A>) -> FlowKey<A> {
    FlowKey { src: flow.src, dst: flow.dst, ports: flow.ports, proto: key.proto }.reversed()
}

/// The protocol of a key.
pub(super) fn protocol(number: u32) -> Option<Protocol> {
    match i32::try_from(number).ok()? {
        libc::IPPROTO_TCP => Some(Protocol::Tcp),
        libc::IPPROTO_UDP => Some(Protocol::Udp),
        _ => None,
    }
}

/// A reverse entry as a record; `None` for a forward entry, or one that is being made.
fn record<A: Copy>(key: &FlowKey<A>, flow: &Flow<A>, ip: fn(A) -> IpAddr, now: Now) -> Option<FlowRecord> {
    if flow.direction != Direction::Reverse as u32 {
        return None;
    }
    let protocol = protocol(key.proto)?;
    let (backend, source) = addr::ends(ip(key.src), ip(key.dst), key.ports);
    let (vip, client) = addr::ends(ip(flow.src), ip(flow.dst), flow.ports);
    Some(FlowRecord {
        protocol,
        client,
        vip,
        source,
        backend,
        member: flow.member,
        service: flow.service,
        phase: Phase::from_number(State(flow.state).phase())?,
        age_ms: now.since(flow.opened),
        idle_ms: now.since_coarse(flow.last_seen),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_wraps_with_jiffies_and_never_underflows() {
        let now = Now { jiffies: (1 << 32) + 50, coarse_shift: 0, hz: 250 };
        assert_eq!(now.since(50), 0);
        assert_eq!(now.since(u32::MAX - 199), 1000, "200 before the wrap and 50 after it");
        assert_eq!(now.since(52), 0, "a moment ahead");
    }

    #[test]
    fn since_coarse_counts_whole_units() {
        let now = Now { jiffies: 1 << 40, coarse_shift: 8, hz: 256 };
        assert_eq!(now.since_coarse(((1u64 << 32) - 3) as u32), 3000);
    }
}
