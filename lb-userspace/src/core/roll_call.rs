//! The roll call: every configured member, in rotation or with the reason why not.

use super::Core;
use super::api::{LastProbe, MemberCall, MemberName, RollCall, ServiceCall, Suspicion, Time};
use super::encode;
use super::watched::Watched;
use crate::config::model::{Member, Service};

impl Core {
    /// The roll call of now, its times as people see them now. Shares are those of the live tables.
    pub fn roll_call(&self, now: Time) -> RollCall {
        let services = self.config.iter().flat_map(|config| &config.services);
        RollCall {
            time: now,
            services: if self.configured { services.map(|s| self.service_call(s, now)).collect() } else { Vec::new() },
            settled: self.is_settled(),
            leases: self.leases.values().map(|l| l.seen_at(now)).collect(),
            removed: self.removed.values().cloned().collect(),
            memory: self.memory_calls(now),
            risks: self.risks.values().map(|r| r.seen_at(now)).collect(),
            stuck: self.stuck.iter().cloned().collect(),
            silent_agents: self.silent_agents(now),
            skews: self.skews(now),
            suspicions: self
                .suspected
                .values()
                .map(|s| Suspicion { since: s.since.seen_at(now), ..s.clone() })
                .collect(),
        }
    }

    /// Whether the kernel holds all that was decided.
    pub(super) fn is_settled(&self) -> bool {
        self.configured && !self.replan && self.shortages.is_empty() && self.kernel.is_settled()
    }

    fn service_call(&self, service: &Service, now: Time) -> ServiceCall {
        let key = encode::service_key(&service.listen);
        let (target, held) = (self.kernel.target(), self.kernel.held());
        let info = target.services.get(&key).or_else(|| held.services.get(&key));
        // Without an id only between a reload and the end of the list under way.
        let id = info.map_or(u32::MAX, |info| info.id);
        let member = |m: &Member| {
            let name = MemberName::of(service, m);
            let (load, observed) = (self.loads.last(&name), self.observed(&name));
            Some(MemberCall { load, observed, ..self.member_call(id, m, self.members.get(&name)?, now) })
        };
        let resort = self.resorts.get(&service.name).copied().unwrap_or_default();
        let (n_minus_1, outgrown) = self.capacity_of(&service.name, now);
        ServiceCall {
            n_minus_1,
            outgrown,
            name: service.name.clone(),
            id,
            listen: service.listen,
            backup_in_use: resort.backup.map(|since| since.seen_at(now)),
            panic: resort.panic.map(|since| since.seen_at(now)),
            at_limit: self.crowded.get(&service.name).map(|since| since.seen_at(now)),
            members: service.members.iter().filter_map(member).collect(),
        }
    }

    fn member_call(&self, service: u32, entry: &Member, member: &Watched, now: Time) -> MemberCall {
        let (_, size) = self.kernel.counts(service);
        let slots = member.id.map_or(0, |id| self.kernel.slots(service, id));
        MemberCall {
            backend: entry.backend.clone(),
            id: member.id,
            address: member.endpoint.address,
            port: member.endpoint.port.get(),
            in_rotation: member.in_rotation,
            tier: entry.tier,
            weight: member.weight.get(),
            effective: member.effective,
            share: if size == 0 { 0.0 } else { f64::from(slots) / f64::from(size) },
            health: member.health.health(),
            streak: member.health.streak(),
            last_probe: member.health.last().map(|p| LastProbe { time: p.time.seen_at(now), ..p.clone() }),
            since: member.since.seen_at(now),
            reasons: member.reasons.iter().map(|r| r.seen_at(now)).collect(),
            hop: self.hops.usable(member.endpoint.address).ok(),
            load: None,
            observed: None,
            empty_since: member.empty_since.map(|at| at.seen_at(now)),
            why: member.why.clone(),
        }
    }
}
