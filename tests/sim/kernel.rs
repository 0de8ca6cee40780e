//! A kernel of plain data that carries map operations out and refuses, by panic, what would hurt a packet: slots
//! overwritten while in use, descriptors that name nobody, members cleared under their flows.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::abi::{Descriptor, LocalKind, Member, Meta, ServiceInfo, ServiceKey, Settings};
use rollcall::core::api::Load;
use rollcall::core::kernel::{KernelState, MapOp, Table};

pub struct Kernel {
    pub meta: Meta,
    settings: Settings,
    locals: BTreeMap<IpAddr, u32>,
    services: BTreeMap<ServiceKey, ServiceInfo>,
    descriptors: BTreeMap<u32, Descriptor>,
    slots: Vec<Option<u32>>,
    members: BTreeMap<u32, Member>,
    /// Open flows by member id.
    flows: BTreeMap<(u32, IpAddr), u32>,
    /// Flows ever opened by member id.
    opened: BTreeMap<u32, u64>,
    /// Descriptors that packets under way may still use: replaced since the last grace period.
    limbo: Vec<Descriptor>,
    /// The last owner of each service id.
    owners: BTreeMap<u32, ServiceKey>,
    /// Operations until one fails.
    pub fail_in: Option<usize>,
}

impl Kernel {
    pub fn new(arena_slots: u32) -> Self {
        let meta = Meta { arena_slots, hz: 250, half_open_buckets: 1024, seed: 7, ..Meta::default() };
        Self {
            meta,
            settings: Settings::default(),
            locals: BTreeMap::new(),
            services: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            slots: vec![None; arena_slots as usize],
            members: BTreeMap::new(),
            flows: BTreeMap::new(),
            opened: BTreeMap::new(),
            limbo: Vec::new(),
            owners: BTreeMap::new(),
            fail_in: None,
        }
    }

    /// The read-back, as the data plane's own.
    pub fn read_state(&self) -> KernelState {
        let table = |info: &ServiceInfo| {
            let descriptor = self.descriptors[&info.id];
            let slots: Vec<u32> = self.region(descriptor).map(|s| s.expect("checked when stored")).collect();
            (info.id, Table { descriptor, slots: slots.into() })
        };
        KernelState {
            settings: self.settings,
            locals: self.locals.clone(),
            services: self.services.clone(),
            tables: self.services.values().map(table).collect(),
            members: self.members.clone(),
        }
    }

    pub fn apply(&mut self, op: &MapOp) -> Result<(), String> {
        if let Some(left) = &mut self.fail_in {
            if *left == 0 {
                self.fail_in = None;
                return Err(format!("injected before {op:?}").chars().take(60).collect());
            }
            *left -= 1;
        }
        match op {
            MapOp::Settings(s) => {
                self.settings = **s;
                self.check_pool();
            }
            MapOp::Member(id, new) => self.write_member(*id, *new),
            MapOp::ClearMember(id) => self.clear_member(*id),
            MapOp::Slots { offset, slots } => self.write_slots(*offset, slots),
            MapOp::Descriptor(id, descriptor) => self.store(*id, *descriptor),
            MapOp::ResetCursor(id) => {
                assert!(self.services.values().all(|s| s.id != *id), "cursor {id} reset under its service");
            }
            MapOp::Service(key, info) => self.write_service(*key, *info),
            MapOp::RemoveService(key) => {
                let info = self.services.remove(key).expect("a service that is there");
                self.limbo.push(self.descriptors[&info.id]);
            }
            MapOp::Local(ip, kinds) => {
                self.locals.insert(*ip, *kinds);
                assert!(kinds & LocalKind::POOL != 0 || !self.is_source(*ip), "{ip} is no source address any more");
            }
            MapOp::RemoveLocal(ip) => {
                assert!(self.locals.remove(ip).is_some(), "{ip} was not local");
                assert!(!self.is_source(*ip), "source address {ip} removed under its flows");
                self.check_pool();
            }
            MapOp::Grace => self.limbo.clear(),
        }
        Ok(())
    }

    fn write_member(&mut self, id: u32, new: Member) {
        assert!(new.family == 4 || new.family == 6);
        match self.members.insert(id, new) {
            Some(old) => assert_eq!(
                (old.service, old.addr, old.port, old.family),
                (new.service, new.addr, new.port, new.family),
                "member {id} changed its identity"
            ),
            None => {
                assert!(!self.is_referred(id), "member {id} given out while packets may still use it");
                assert_eq!(self.flows(id), 0, "member {id} given out with flows");
            }
        }
    }

    fn clear_member(&mut self, id: u32) {
        assert!(self.members.remove(&id).is_some(), "member {id} cleared twice");
        assert!(!self.is_referred(id), "member {id} cleared while packets may still use it");
        assert_eq!(self.flows(id), 0, "member {id} cleared with flows");
        self.opened.remove(&id);
    }

    fn write_slots(&mut self, offset: u32, new: &[u32]) {
        let end = offset + new.len() as u32;
        for used in self.live().chain(self.limbo.iter().copied()) {
            let apart = end <= used.offset() || used.offset() + used.size() <= offset;
            assert!(apart, "slots {offset}..{end} written while {used:?} is in use");
        }
        for (slot, &id) in self.slots[offset as usize..end as usize].iter_mut().zip(new) {
            *slot = Some(id);
        }
    }

    fn store(&mut self, id: u32, new: Descriptor) {
        let members: HashSet<_> = self.region(new).collect();
        for slot in members {
            let member = slot.expect("a slot that was written");
            let service = self.members.get(&member).expect("a member that exists").service;
            assert_eq!(service, id, "member {member} in a table of another service");
        }
        if let Some(old) = self.descriptors.insert(id, new)
            && self.services.values().any(|s| s.id == id)
        {
            assert_ne!(old.generation(), new.generation());
            self.limbo.push(old);
        }
    }

    fn write_service(&mut self, key: ServiceKey, info: ServiceInfo) {
        assert!(self.descriptors.contains_key(&info.id), "service without a descriptor");
        assert!(self.locals.values().any(|kinds| kinds & LocalKind::VIP != 0), "service without its address");
        assert!(self.services.iter().all(|(k, s)| *k == key || s.id != info.id), "service id {} twice", info.id);
        if let Some(old) = self.services.insert(key, info) {
            assert_eq!(old.id, info.id, "a service changed its id");
        }
        if self.owners.insert(info.id, key).is_some_and(|before| before != key) {
            let mut of_service = self.members.iter().filter(|(_, m)| m.service == info.id);
            assert!(of_service.all(|(&m, _)| self.flows(m) == 0), "service id {} reused under flows", info.id);
        }
    }

    fn check_pool(&self) {
        for ip in self.pool() {
            let kinds = self.locals.get(&ip).copied().unwrap_or(0);
            assert!(kinds & LocalKind::POOL != 0, "source address {ip} in use but not local");
        }
    }

    fn pool(&self) -> Vec<IpAddr> {
        let v4 = self.settings.pool4[..self.settings.pool4_len as usize].iter();
        let v6 = self.settings.pool6[..self.settings.pool6_len as usize].iter();
        let v4 = v4.map(|a| IpAddr::from(Ipv4Addr::from(a.to_ne_bytes())));
        let v6 = v6.map(|a| {
            let mut octets = [0; 16];
            a.iter().zip(octets.chunks_exact_mut(4)).for_each(|(w, c)| c.copy_from_slice(&w.to_ne_bytes()));
            IpAddr::from(Ipv6Addr::from(octets))
        });
        v4.chain(v6).collect()
    }

    /// Whether a flow uses this source address.
    pub fn is_source(&self, ip: IpAddr) -> bool {
        self.flows.keys().any(|&(_, source)| source == ip)
    }

    fn live(&self) -> impl Iterator<Item = Descriptor> + '_ {
        self.services.values().map(|s| self.descriptors[&s.id])
    }

    fn region(&self, d: Descriptor) -> impl Iterator<Item = Option<u32>> + '_ {
        self.slots[d.offset() as usize..(d.offset() + d.size()) as usize].iter().copied()
    }

    /// Whether a packet may still pick the member.
    fn is_referred(&self, member: u32) -> bool {
        let slots = |d: Descriptor| &self.slots[d.offset() as usize..(d.offset() + d.size()) as usize];
        self.live().chain(self.limbo.iter().copied()).any(|d| slots(d).contains(&Some(member)))
    }

    pub fn flows(&self, member: u32) -> u32 {
        self.flows.iter().filter(|((id, _), _)| *id == member).map(|(_, n)| n).sum()
    }

    /// Whether a member gets no packet.
    pub fn is_closed(&self, member: u32) -> bool {
        self.members.get(&member).is_some_and(|m| m.hop.is_closed())
    }

    /// A new flow on the n-th service, by slot `pick`, from some source address.
    pub fn open_flow(&mut self, nth: usize, pick: u32) {
        let Some(info) = self.services.values().nth(nth % self.services.len().max(1)) else { return };
        let d = self.descriptors[&info.id];
        if d.size() == 0 {
            return;
        }
        let member = self.slots[(d.offset() + pick % d.size()) as usize].expect("a slot that was written");
        assert!(self.members.contains_key(&member), "flow to nobody");
        let v4 = self.members[&member].family == 4;
        let pool: Vec<IpAddr> = self.pool().into_iter().filter(|ip| ip.is_ipv4() == v4).collect();
        let source = pool[pick as usize % pool.len()];
        *self.flows.entry((member, source)).or_default() += 1;
        *self.opened.entry(member).or_default() += 1;
    }

    /// A flow that comes and goes: by a slot of the n-th service, or by that of `truth`, where the kernel is not honest.
    pub fn pass_flow(&mut self, nth: usize, pick: u32, truth: impl Fn(u32) -> u32) {
        let Some(info) = self.services.values().nth(nth % self.services.len().max(1)) else { return };
        let d = self.descriptors[&info.id];
        if d.size() > 0 {
            let member = self.slots[(d.offset() + pick % d.size()) as usize].expect("a slot that was written");
            *self.opened.entry(truth(member)).or_default() += 1;
        }
    }

    /// The counters of a member.
    pub fn load(&self, member: u32) -> Load {
        let opened = self.opened.get(&member).copied().unwrap_or(0);
        Load { opened, active: self.flows(member).into(), bytes: opened * 1000 }
    }

    /// Ends all flows of the members that `which` accepts.
    pub fn close_flows(&mut self, mut which: impl FnMut(u32) -> bool) {
        self.flows.retain(|&(member, _), _| !which(member));
    }
}
