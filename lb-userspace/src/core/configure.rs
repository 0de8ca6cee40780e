//! From one configuration to the next: who is watched, how, and from what state each member starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::Meta;

use super::Core;
use super::api::{Author, EventKind, MemberName, Output};
use super::encode;
use super::health::{Origin, Tracker};
use super::kernel::{KernelState, MemberId};
use super::removed::Removed;
use super::watched::{Endpoint, Watched};
use crate::config::model::{Config, Probe, Tier};

/// The start's grace is at least this long.
const SHORTEST_GRACE: Duration = Duration::from_secs(3);

impl Core {
    pub(super) fn take_maps(&mut self, meta: Meta, state: KernelState, adopted: bool) {
        if self.kernel.meta().is_none() {
            // Maps that hold no service were left by a daemon that never got to work: that is a cold start, too.
            self.adopted = adopted && !state.services.is_empty();
        }
        self.kernel.read_back(meta, state);
        if self.configured {
            self.refresh_rotation();
        } else if let Some(config) = self.config.clone() {
            self.configure(&config);
        }
        self.replan = true;
    }

    pub(super) fn take_config(&mut self, config: Arc<Config>, by: Author) {
        if self.config.as_ref() == Some(&config) {
            return;
        }
        let old = self.config.replace(config.clone()).or_else(|| self.before.take());
        self.account_for(old.as_ref(), &config, &by);
        if self.kernel.meta().is_some() {
            self.configure(&config);
        }
    }

    /// The configuration before is in force again, since the change to the one that runs failed outside the core.
    pub(super) fn revert_config(&mut self, config: Arc<Config>, removed: Vec<Removed>, by: &Author) {
        let Some(changed) = self.config.replace(config.clone()) else { return };
        self.take_back(&changed, &config, removed, by);
        if self.kernel.meta().is_some() {
            self.configure(&config);
        }
    }

    /// Makes `members` those of the configuration. A member that was there keeps its state, also under a new name.
    fn configure(&mut self, config: &Config) {
        let first = !std::mem::replace(&mut self.configured, true);
        let mut old = Old::new(std::mem::take(&mut self.members));
        for service in &config.services {
            let probe = service.probe.clone().map(Arc::new);
            for member in &service.members {
                let backend = config.backends.get(&member.backend);
                let Some(address) = backend.and_then(|b| service.address_of(b)) else { continue };
                let name = MemberName::of(service, member);
                let endpoint = Endpoint { listen: service.listen, address, port: member.port };
                let kept = old.take(&name, &endpoint);
                // Results of probes of another name, endpoint or kind must not count.
                let afresh = kept.as_ref().is_none_or(|(before, w)| *before != name || what(&w.probe) != what(&probe));
                let watched = match kept {
                    Some((before, mut watched)) => {
                        if before != name {
                            self.review(&before, &watched.reasons, &[]);
                        }
                        watched.held &= before == name;
                        watched.weight = member.weight;
                        match (&watched.probe, &probe) {
                            (None, Some(_)) => watched.health.begin_probing(),
                            (Some(_), None) => {
                                watched.health = Tracker::new(Origin::Unprobed);
                                // No probe will ever say that it may come back.
                                watched.returning = None;
                            }
                            _ => {}
                        }
                        watched.probe = probe.clone();
                        watched
                    }
                    None => self.new_member(&name, endpoint, (member.weight, member.tier), probe.clone(), first),
                };
                self.watch(&name, probe.as_deref(), afresh, first);
                self.members.insert(name, watched);
            }
        }
        let members = &self.members;
        self.schedule.retain(|name| members.get(name).is_some_and(|m| m.probe.is_some()));
        self.graces.retain(|(_, name)| members.contains_key(name));
        for (name, gone) in old.rest() {
            self.review(&name, &gone.reasons, &[]);
            if gone.in_rotation {
                self.event(Some(&name), EventKind::OutOfRotation, "removed from the configuration".to_owned());
            }
        }
        self.follow_ramps();
        self.follow_resorts(config);
        self.follow_memory(config);
        self.follow_agents(config);
        self.announce = Some(format!("{} services, {} members", config.services.len(), self.members.len()));
        self.reconsider_all();
        self.follow_hops();
        self.dirty.extend(config.services.iter().map(|s| s.name.clone()));
        self.replan = true;
    }

    fn new_member(
        &self,
        name: &MemberName,
        endpoint: Endpoint,
        (weight, tier): (std::num::NonZeroU16, Tier),
        probe: Option<Arc<Probe>>,
        first: bool,
    ) -> Watched {
        let found = if first && self.adopted { self.find_in_kernel(&endpoint) } else { None };
        let serving = found.is_some_and(|id| self.kernel.is_in_a_table(id));
        // What a lease kept out, or stood by, may well be healthy; a lease's end asks for a probe anyway.
        let kept_out = self.is_leased(name) || tier == Tier::Backup;
        let origin = match found {
            Some(_) => Origin::Adopted { serving: serving || kept_out },
            None if first && !self.adopted => Origin::Cold,
            None => Origin::Added,
        };
        let mut watched = Watched::new(endpoint, weight, probe, origin, self.now);
        (watched.id, watched.in_rotation) = (found, serving);
        watched.admitted |= serving;
        watched
    }

    fn find_in_kernel(&self, endpoint: &Endpoint) -> Option<MemberId> {
        let held = self.kernel.held();
        let service = held.services.get(&encode::service_key(&endpoint.listen))?.id;
        let port = u32::from(encode::port(endpoint.port));
        let same = |m: &lb_common::abi::Member| {
            m.service == service && m.port == port && encode::member_address(m) == endpoint.address
        };
        held.members.iter().find(|(_, m)| same(m)).map(|(&id, _)| id)
    }

    fn watch(&mut self, name: &MemberName, probe: Option<&Probe>, afresh: bool, first: bool) {
        let Some(probe) = probe else { return };
        self.schedule.watch(name, probe.interval, probe.timeout, afresh, self.now.boot_ms);
        if first && !self.adopted {
            let grace = self.now + (probe.interval + probe.timeout).max(SHORTEST_GRACE);
            self.graces.insert((grace.boot_ms, name.clone()));
        }
    }

    /// Asks for the next hops of all members, those that are leaving too.
    pub(super) fn follow_hops(&mut self) {
        let kernel = self.kernel.target().members.values().chain(self.kernel.held().members.values());
        let configured = self.members.values().map(|m| m.endpoint.address);
        let addresses: Vec<_> = configured.chain(kernel.map(encode::member_address)).collect();
        if self.hops.follow(addresses, self.kernel.held(), self.now.boot_ms) {
            self.outputs.push_back(Output::Resolve(self.hops.addresses()));
        }
    }
}

/// What a probe asks, without how often.
fn what(probe: &Option<Arc<Probe>>) -> Option<(&crate::config::model::ProbeKind, Option<std::num::NonZeroU16>)> {
    probe.as_ref().map(|p| (&p.kind, p.port))
}

/// The members before, to be taken by whom they go on as.
struct Old {
    by_name: BTreeMap<MemberName, Watched>,
    by_endpoint: BTreeMap<Endpoint, Vec<MemberName>>,
}

impl Old {
    fn new(by_name: BTreeMap<MemberName, Watched>) -> Self {
        let mut by_endpoint: BTreeMap<Endpoint, Vec<MemberName>> = BTreeMap::new();
        for (name, member) in &by_name {
            by_endpoint.entry(member.endpoint).or_default().push(name.clone());
        }
        Self { by_name, by_endpoint }
    }

    /// The same endpoint, preferably under the same name.
    fn take(&mut self, name: &MemberName, endpoint: &Endpoint) -> Option<(MemberName, Watched)> {
        let names = self.by_endpoint.get_mut(endpoint)?;
        let at = names.iter().position(|n| n == name).unwrap_or(0);
        let before = if names.is_empty() { return None } else { names.remove(at) };
        let watched = self.by_name.remove(&before)?;
        Some((before, watched))
    }

    fn rest(self) -> BTreeMap<MemberName, Watched> {
        self.by_name
    }
}
