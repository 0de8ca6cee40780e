//! The roll call without a daemon: what the maps hold, under the names of the configuration that ran last. Of health it
//! says nothing, since nobody asks the servers any more; of shares and leases it says what is in force.

use std::collections::BTreeMap;

use super::api::{Health, MemberCall, MemberName, RollCall, ServiceCall, Time};
use super::encode;
use super::kernel::{KernelState, MemberId};
use super::lease::Lease;
use super::reason::{Reason, ReasonKind};
use super::removed::Removed;
use super::weight::UNIT;
use crate::config::model::{Config, Member, Service, Tier};

/// The roll call at `now` of what a daemon left, which was last seen alive at `seen`. Leases are of this boot.
pub fn roll_call(
    config: &Config,
    kernel: &KernelState,
    leases: &[Lease],
    removed: &[Removed],
    seen: Time,
    now: Time,
) -> RollCall {
    let frozen = Frozen { config, kernel, leases, seen, now };
    RollCall {
        time: now,
        services: config.services.iter().map(|service| frozen.service(service)).collect(),
        settled: true,
        suspicions: Vec::new(),
        leases: leases.iter().map(|lease| lease.seen_at(now)).collect(),
        removed: removed.to_vec(),
        memory: Vec::new(),
        skews: Vec::new(),
        risks: Vec::new(),
        stuck: Vec::new(),
        silent_agents: Vec::new(),
    }
}

struct Frozen<'a> {
    config: &'a Config,
    kernel: &'a KernelState,
    leases: &'a [Lease],
    seen: Time,
    now: Time,
}

impl Frozen<'_> {
    fn service(&self, service: &Service) -> ServiceCall {
        let info = self.kernel.services.get(&encode::service_key(&service.listen));
        let id = info.map_or(u32::MAX, |info| info.id);
        let mut slots: BTreeMap<MemberId, u32> = BTreeMap::new();
        for &member in self.kernel.tables.get(&id).iter().flat_map(|table| table.slots.iter()) {
            *slots.entry(member).or_default() += 1;
        }
        let mut members: Vec<_> = service.members.iter().filter_map(|m| self.member(service, id, m, &slots)).collect();
        let serves = |tier| members.iter().any(|m: &MemberCall| m.in_rotation && m.tier == tier);
        let (primaries, backups) = (serves(Tier::Primary), serves(Tier::Backup));
        if primaries && !backups {
            members.iter_mut().filter(|m| m.tier == Tier::Backup).for_each(|m| m.reasons.push(self.standby()));
        }
        let backup_in_use = (backups && !primaries).then_some(self.seen);
        ServiceCall {
            name: service.name.clone(),
            id,
            listen: service.listen,
            backup_in_use,
            panic: None,
            at_limit: None,
            n_minus_1: None,
            outgrown: None,
            members,
        }
    }

    fn member(
        &self,
        service: &Service,
        service_id: u32,
        member: &Member,
        slots: &BTreeMap<MemberId, u32>,
    ) -> Option<MemberCall> {
        let address = service.address_of(self.config.backends.get(&member.backend)?)?;
        let (addr, port) = (encode::addr(address), u32::from(encode::port(member.port)));
        let known = |m: &&lb_common::abi::Member| (m.service, m.addr, m.port) == (service_id, addr, port);
        let held = self.kernel.members.iter().find(|(_, m)| known(m));
        let own = held.and_then(|(id, _)| slots.get(id)).copied().unwrap_or(0);
        let size: u32 = slots.values().sum();
        let name = MemberName::of(service, member);
        let leases = self.leases.iter().filter(|lease| lease.scope.covers(&name));
        let reasons = leases.map(|lease| reason(lease, self.now)).collect();
        Some(MemberCall {
            backend: name.backend,
            id: held.map(|(&id, _)| id),
            address,
            port: member.port.get(),
            in_rotation: own > 0,
            tier: member.tier,
            weight: member.weight.get(),
            effective: if own > 0 { u32::from(member.weight.get()) * UNIT } else { 0 },
            share: if size == 0 { 0.0 } else { f64::from(own) / f64::from(size) },
            health: Health::Unknown,
            streak: 0,
            last_probe: None,
            since: self.seen,
            reasons,
            hop: held.map(|(_, m)| m.hop).filter(lb_common::abi::Hop::is_resolved),
            load: None,
            observed: None,
            empty_since: None,
            why: "as the daemon left it".to_owned(),
        })
    }
}

impl Frozen<'_> {
    fn standby(&self) -> Reason {
        let cause = "it stood by while a primary member served".to_owned();
        Reason { kind: ReasonKind::Backup, since: self.seen, cause, owner: None, review_at: None }
    }
}

fn reason(lease: &Lease, now: Time) -> Reason {
    Reason {
        kind: lease.kind.reason(),
        since: lease.begun,
        cause: lease.reason.clone(),
        owner: Some(lease.owner.name.clone()),
        review_at: Some(lease.ends.seen_at(now)),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::{Algorithm, Descriptor, Member as KernelMember, ServiceInfo};

    use super::super::kernel::Table;
    use super::*;
    use crate::control::testing::{self, NOW, before};

    /// `www` as the maps hold it: three slots for `web-01`, one for `web-03`, none for `web-02`.
    fn kernel(config: &Config) -> KernelState {
        let mut kernel = KernelState::default();
        let service = &config.services[0];
        let key = encode::service_key(&service.listen);
        kernel.services.insert(key, ServiceInfo { id: 7, ..ServiceInfo::default() });
        for (id, member) in (20..).zip(&service.members) {
            let address = config.backends[&member.backend].address_like(service.listen.vip).unwrap();
            let member = KernelMember {
                addr: encode::addr(address),
                port: u32::from(encode::port(member.port)),
                family: 4,
                service: 7,
                ..KernelMember::default()
            };
            kernel.members.insert(id, member);
        }
        let slots = [20, 20, 22, 20].into();
        kernel.tables.insert(7, Table { descriptor: Descriptor::new(0, 4, Algorithm::Maglev, 1), slots });
        kernel
    }

    #[test]
    fn roll_call_of_what_is_left_has_live_shares_and_the_leases_in_force() {
        let config = testing::config();
        let lease = testing::lease();
        let mut second = lease.clone();
        second.scope.service = Some(config.services[0].name.clone());
        second.owner.name = "grace".to_owned();
        let call = roll_call(&config, &kernel(&config), &[lease, second], &[], before(60), NOW);
        let www = &call.services[0].members;
        let shares: Vec<_> = www.iter().map(|m| (m.id, m.in_rotation, m.share)).collect();
        assert_eq!(shares, [(Some(20), true, 0.75), (Some(21), false, 0.0), (Some(22), true, 0.25)]);
        assert_eq!((www[0].effective, www[1].effective), (2 * UNIT, 0));
        let reason = &www[1].reasons[0];
        assert_eq!((reason.kind, reason.owner.as_deref()), (ReasonKind::Drained, Some("ada")));
        assert_eq!(reason.review_at.map(|at| at.wall_ms), Some(call.leases[0].ends.wall_ms));
        assert_eq!(www[1].reasons.get(1).and_then(|r| r.owner.as_deref()), Some("grace"), "each lease is a reason");
        assert!(www[0].reasons.is_empty() && www[2].reasons.is_empty());
        assert_eq!(www[0].since, before(60));
    }

    #[test]
    fn roll_call_of_a_service_that_the_maps_do_not_hold_has_its_members_out() {
        let config = testing::config();
        let call = roll_call(&config, &kernel(&config), &[], &[], before(60), NOW);
        let dns = &call.services[1].members;
        assert_eq!(dns.len(), 1);
        assert!(!dns[0].in_rotation && dns[0].id.is_none() && dns[0].reasons.is_empty());
    }
}
