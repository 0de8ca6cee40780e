//! The plan: what the kernel should hold, from configuration, facts and what it holds now.
//!
//! Ids and arena regions are found by content in what the kernel holds: a member is (service, address, port), a service
//! its VIP, port and protocol. So a restarted daemon recovers every id from the maps alone, and a half-applied list is
//! just another state to start from. Owns no history, and writes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::abi::{
    Addr6, Descriptor, Hop, LocalKind, MAX_LINKS, MAX_MEMBERS, MAX_SERVICES, Member as KernelMember, Meta,
};

use super::alloc::{Arena, Ids};
use super::api::{Leaving, MemberName};
use super::diff::next_generation;
use super::encode;
use super::hops::Hops;
use super::kernel::{KernelState, MemberId, ServiceId, Table};
use super::tables::{Cache, Entry, Recipe};
use crate::config::model::{BackendName, Config, Service, ServiceName};

/// What a plan is made from.
pub struct Request<'a> {
    /// Sizes of the maps.
    pub meta: &'a Meta,
    /// What is configured.
    pub config: &'a Config,
    /// What the kernel holds.
    pub kernel: &'a KernelState,
    /// MACs of the attached interfaces, if known; else those in the kernel stay.
    pub macs: Option<[u64; MAX_LINKS]>,
    /// Next hops.
    pub hops: &'a Hops,
    /// Effective weights; a member that is not listed has none.
    pub weights: &'a BTreeMap<MemberName, u32>,
    /// Members that are to get no packet.
    pub closed: &'a BTreeSet<MemberName>,
    /// Leaving members without flows: their ids are given up.
    pub drained: &'a BTreeSet<MemberId>,
    /// Leaving source addresses without flows: they are given up.
    pub unused: &'a BTreeSet<IpAddr>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Plan {
    /// What the kernel should hold.
    pub state: KernelState,
    /// Ids of the configured services.
    pub services: BTreeMap<ServiceName, ServiceId>,
    /// Ids of the configured members.
    pub members: BTreeMap<MemberName, MemberId>,
    /// Members that are kept for their flows only.
    pub leaving: Leaving,
    /// Source addresses that are kept for their flows only.
    pub leaving_addresses: BTreeSet<IpAddr>,
    /// What did not fit, in words. What could not be placed stays as it is.
    pub shortages: Vec<String>,
}

/// A member's identity in the kernel: service id, address, port, family.
type Identity = (ServiceId, Addr6, u32, u32);

fn identity(m: &KernelMember) -> Identity {
    (m.service, m.addr, m.port, m.family)
}

/// Makes the plan.
pub fn plan(request: &Request<'_>, cache: &mut Cache) -> Plan {
    let mut planner = Planner::new(request);
    let macs = request.macs.unwrap_or(request.kernel.settings.macs);
    planner.plan.state.settings = encode::settings(request.config, request.meta, macs);
    planner.locals();
    // Ids first, for all: a table never waits for an id, and what stays is known before regions are given out.
    let placed: Vec<_> = request.config.services.iter().filter_map(|s| Some((s, planner.service(s)?))).collect();
    let recipes: Vec<_> = placed.iter().map(|&(service, id)| (service, id, planner.recipe(service, id))).collect();
    for (service, id, recipe) in recipes {
        planner.table(service, id, recipe, cache);
    }
    planner.leave();
    cache.retain(|key| planner.plan.state.services.contains_key(key));
    planner.plan
}

struct Planner<'a> {
    request: &'a Request<'a>,
    plan: Plan,
    service_ids: Ids,
    member_ids: Ids,
    arena: Arena,
    known: BTreeMap<Identity, VecDeque<MemberId>>,
}

impl<'a> Planner<'a> {
    fn new(request: &'a Request<'a>) -> Self {
        let kernel = request.kernel;
        // A leaving member's flows still count on their service's id.
        let services = kernel.services.values().map(|s| s.id).chain(kernel.members.values().map(|m| m.service));
        let mut known: BTreeMap<Identity, VecDeque<MemberId>> = BTreeMap::new();
        for (&id, member) in &kernel.members {
            known.entry(identity(member)).or_default().push_back(id);
        }
        let regions = kernel.tables.values().map(|t| (t.descriptor.offset(), t.descriptor.size()));
        Self {
            request,
            plan: Plan::default(),
            service_ids: Ids::new(services.collect(), MAX_SERVICES),
            member_ids: Ids::new(kernel.members.keys().copied().collect(), MAX_MEMBERS),
            arena: Arena::new(request.meta.arena_slots.min(Descriptor::MAX_OFFSET), regions),
            known,
        }
    }

    /// VIPs and source addresses. A VIP leaves at once, since another host may be about to take it over; a source address
    /// stays as long as a flow may use it.
    fn locals(&mut self) {
        let locals = &mut self.plan.state.locals;
        for (ip, kind) in encode::locals(self.request.config) {
            *locals.entry(ip).or_default() |= kind;
        }
        for (&ip, kinds) in &self.request.kernel.locals {
            let configured = locals.get(&ip).copied().unwrap_or(0);
            if kinds & !configured & LocalKind::POOL != 0 && !self.request.unused.contains(&ip) {
                locals.insert(ip, configured | LocalKind::POOL);
                self.plan.leaving_addresses.insert(ip);
            }
        }
    }

    /// The service's id and entry.
    fn service(&mut self, service: &Service) -> Option<ServiceId> {
        let key = encode::service_key(&service.listen);
        let known = self.request.kernel.services.get(&key).map(|info| info.id);
        // Only foreign hands can have written one that is out of range, or another service's.
        let taken = |id: ServiceId| self.plan.state.services.values().any(|info| info.id == id);
        let known = known.filter(|&id| id < MAX_SERVICES && !taken(id));
        let id = known.or_else(|| self.service_ids.take());
        let Some(id) = id else {
            self.plan.shortages.push(format!("service {}: all {MAX_SERVICES} service ids are taken", service.name));
            return None;
        };
        self.plan.state.services.insert(key, encode::service_info(service, id, self.request.meta.hz));
        self.plan.services.insert(service.name.clone(), id);
        Some(id)
    }

    /// Gives the service's members their ids, and says what its table is made from.
    fn recipe(&mut self, service: &Service, id: ServiceId) -> Recipe {
        let mut entries = Vec::new();
        for member in &service.members {
            let name = MemberName::of(service, member);
            let backend = self.request.config.backends.get(&member.backend);
            let Some(ip) = backend.and_then(|b| service.address_of(b)) else { continue };
            let weight = self.request.weights.get(&name).copied().unwrap_or(0);
            let wanted = KernelMember {
                hop: if self.request.closed.contains(&name) { Hop::closed() } else { self.request.hops.last(ip) },
                addr: encode::addr(ip),
                port: u32::from(encode::port(member.port)),
                family: u32::from(encode::family(ip)),
                service: id,
                weight,
                ..KernelMember::default()
            };
            let found = self.known.get_mut(&identity(&wanted)).and_then(VecDeque::pop_front);
            let Some(member_id) = found.or_else(|| self.member_ids.take()) else {
                self.plan.shortages.push(format!("{name}: all {MAX_MEMBERS} member ids are taken"));
                continue;
            };
            self.plan.state.members.insert(member_id, wanted);
            self.plan.members.insert(name, member_id);
            if weight > 0 {
                entries.push(Entry { name: member.backend.clone(), id: member_id, weight });
            }
        }
        Recipe::new(service.algorithm, service.table_size, entries)
    }

    /// The service's table: the old one if it is right, else a new one in a region that is free.
    fn table(&mut self, service: &Service, id: ServiceId, recipe: Recipe, cache: &mut Cache) {
        let kind = encode::table_kind(service);
        let slots = cache.table(encode::service_key(&service.listen), recipe);
        let old = self.request.kernel.tables.get(&id);
        let right = |t: &&Table| t.descriptor.algorithm() == kind as u8 && t.slots == slots;
        if let Some(old) = old.filter(right) {
            self.plan.state.tables.insert(id, old.clone());
            return;
        }
        let generation = next_generation(old.map(|t| t.descriptor));
        // A table's size is checked with the configuration, far below a u32.
        let size = slots.len() as u32;
        let table = match if size == 0 { Some(0) } else { self.arena.take(size) } {
            Some(offset) => Table { descriptor: Descriptor::new(offset, size, kind, generation), slots },
            None => {
                let (free, largest) = self.arena.free();
                self.plan.shortages.push(format!(
                    "service {}: its new table of {size} slots does not fit: {free} of {} slots are free, {largest} in \
                     one piece; its old table stays. Raise conntrack.arena_slots (needs `rollcall down` first) or \
                     lower the service's table_size",
                    service.name, self.request.meta.arena_slots
                ));
                let refuse = || Table { descriptor: Descriptor::new(0, 0, kind, generation), slots: Arc::from([]) };
                old.cloned().unwrap_or_else(refuse)
            }
        };
        self.plan.state.tables.insert(id, table);
    }

    /// Keeps what is no longer configured for as long as flows, or a table that had to stay, may refer to it.
    fn leave(&mut self) {
        let tables = &self.plan.state.tables;
        let in_a_table = |id| tables.values().any(|t| t.slots.contains(&id));
        let drained = self.request.drained.iter().copied();
        let drained: BTreeSet<MemberId> = drained.filter(|&id| !in_a_table(id)).collect();
        let names: BTreeMap<ServiceId, &ServiceName> =
            self.plan.services.iter().map(|(name, &id)| (id, name)).collect();
        for (&id, old) in &self.request.kernel.members {
            if self.plan.state.members.contains_key(&id) || drained.contains(&id) {
                continue;
            }
            let ip = encode::member_address(old);
            let name = self.leaving_name(id, old, names.get(&old.service).copied());
            let hop = if self.request.closed.contains(&name) || old.hop.is_closed() {
                // In maintenance, now or when it left: its flows were ended, and nothing is to reach it again.
                Hop::closed()
            } else {
                Some(self.request.hops.last(ip)).filter(Hop::is_resolved).unwrap_or(old.hop)
            };
            self.plan.state.members.insert(id, KernelMember { hop, weight: 0, ..*old });
            self.plan.leaving.insert(id, name);
        }
    }

    /// The name of a leaving member as far as the configuration still knows it.
    fn leaving_name(&self, id: MemberId, member: &KernelMember, service: Option<&ServiceName>) -> MemberName {
        let ip = encode::member_address(member);
        let mut backends = self.request.config.backends.values();
        let known = backends.find(|b| b.ipv4.map(Into::into) == Some(ip) || b.ipv6.map(Into::into) == Some(ip));
        let valid = "letters, digits and dashes";
        let backend =
            known.map(|b| b.name.clone()).unwrap_or_else(|| BackendName::new(&format!("removed-{id}")).expect(valid));
        let service = service.cloned();
        let service = service.unwrap_or_else(|| ServiceName::new(&format!("removed-{}", member.service)).expect(valid));
        MemberName { service, backend }
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::ServiceInfo;

    use super::*;
    use crate::control::testing;

    #[test]
    fn service_ids_that_foreign_hands_wrote_are_not_believed() {
        let config = testing::config();
        let keys: Vec<_> = config.services.iter().map(|s| encode::service_key(&s.listen)).collect();
        assert!(keys.len() > 1);
        let meta = Meta { arena_slots: 1 << 20, hz: 250, half_open_buckets: 1024, ..Meta::default() };
        for wrong in [3, MAX_SERVICES, u32::MAX] {
            let info = ServiceInfo { id: wrong, ..ServiceInfo::default() };
            let kernel =
                KernelState { services: keys.iter().map(|&key| (key, info)).collect(), ..KernelState::default() };
            let request = Request {
                meta: &meta,
                config: &config,
                kernel: &kernel,
                macs: None,
                hops: &Hops::default(),
                weights: &BTreeMap::new(),
                closed: &BTreeSet::new(),
                drained: &BTreeSet::new(),
                unused: &BTreeSet::new(),
            };
            let plan = plan(&request, &mut Cache::default());
            let ids: BTreeSet<ServiceId> = plan.services.values().copied().collect();
            assert_eq!((ids.len(), plan.shortages.len()), (keys.len(), 0), "{ids:?}");
            assert!(ids.iter().all(|&id| id < MAX_SERVICES), "{ids:?}");
        }
    }
}
