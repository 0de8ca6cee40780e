//! Direct flows, whose backends answer clients themselves: listed and counted, some buckets at a time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use aya::Pod;
use aya::maps::{Array, MapData};
use lb_common::abi::{DirectBucket, DirectSlot, Member, Slot, direct_buckets};
use lb_common::conntrack::Phase;
use lb_common::direct::is_active;

use super::error::BpfError;
use super::flows::{FlowFilter, Now, protocol};
use super::types::FlowRecord;
use super::{DataPlane, addr, batch};

/// Buckets read by one call.
const CHUNK: u32 = 1024;

impl DataPlane {
    /// Adds direct flows that match to `found`, up to the filter's limit; the flag says whether more matched.
    pub(super) fn direct_flows(
        &self,
        now: Now,
        filter: &FlowFilter,
        found: &mut Vec<FlowRecord>,
    ) -> Result<bool, BpfError> {
        let members: BTreeMap<u32, Member> = self.members()?.collect();
        Ok(self.list_direct(&self.maps.direct4, addr::v4, now, filter, &members, found)?
            || self.list_direct(&self.maps.direct6, addr::v6, now, filter, &members, found)?)
    }

    /// Adds the direct flows that are open now to `active`, by member id.
    pub(super) fn active_direct(&self, active: &mut BTreeMap<u32, u64>) -> Result<(), BpfError> {
        self.count_direct(&self.maps.direct4, active)?;
        self.count_direct(&self.maps.direct6, active)
    }

    fn count_direct<A: Copy + 'static>(
        &self,
        map: &Array<MapData, DirectBucket<A>>,
        active: &mut BTreeMap<u32, u64>,
    ) -> Result<(), BpfError>
    where
        DirectBucket<A>: Pod,
    {
        self.for_each_direct(map, |slot| {
            if is_active(slot.phase) {
                *active.entry(slot.member).or_default() += 1;
            }
            ControlFlow::Continue(())
        })
    }

    fn list_direct<A: Copy + 'static>(
        &self,
        map: &Array<MapData, DirectBucket<A>>,
        ip: fn(A) -> IpAddr,
        now: Now,
        filter: &FlowFilter,
        members: &BTreeMap<u32, Member>,
        found: &mut Vec<FlowRecord>,
    ) -> Result<bool, BpfError>
    where
        DirectBucket<A>: Pod,
    {
        let mut more = false;
        self.for_each_direct(map, |slot| {
            let member = members.get(&slot.member);
            let Some(record) = member.and_then(|m| record(slot, m, ip, now)).filter(|r| filter.admits(r)) else {
                return ControlFlow::Continue(());
            };
            if found.len() >= filter.limit {
                more = true;
                return ControlFlow::Break(());
            }
            found.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(more)
    }

    /// Calls `each` with every slot that holds a flow, until it breaks.
    fn for_each_direct<A: Copy + 'static>(
        &self,
        map: &Array<MapData, DirectBucket<A>>,
        mut each: impl FnMut(&DirectSlot<A>) -> ControlFlow<()>,
    ) -> Result<(), BpfError>
    where
        DirectBucket<A>: Pod,
    {
        let all = direct_buckets(self.meta.max_flows);
        for first in (0..all).step_by(CHUNK as usize) {
            for bucket in batch::read_array(map, first, CHUNK.min(all - first))? {
                let live = bucket.slots.iter().filter(|slot| slot.owner & Slot::<A>::STATE == Slot::<A>::LIVE);
                for slot in live {
                    if each(slot).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A slot as a record. The backend sees the client's own address and port.
fn record<A: Copy>(slot: &DirectSlot<A>, member: &Member, ip: fn(A) -> IpAddr, now: Now) -> Option<FlowRecord> {
    let (client, vip) = addr::ends(ip(slot.key.src), ip(slot.key.dst), slot.key.ports);
    let address = if member.family == 4 { addr::v4(member.addr[0]) } else { addr::v6(member.addr) };
    Some(FlowRecord {
        protocol: protocol(slot.key.proto)?,
        client,
        vip,
        source: client,
        backend: SocketAddr::new(address, vip.port()),
        member: slot.member,
        service: slot.service,
        phase: Phase::from_number(slot.phase)?,
        age_ms: now.since(slot.opened),
        idle_ms: now.since_coarse(slot.last_seen),
    })
}
