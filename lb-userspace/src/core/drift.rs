//! Drift: where the maps, read back, differ from what was decided, in the names of the configuration. Only foreign hands
//! bring that about. Owns no repair: the next plan starts from what was found, see [`super::desired`].

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Core;
use super::api::MemberName;
use super::encode;
use super::kernel::{KernelState, MemberId, ServiceId, Table};
use crate::config::model::{BackendName, ServiceName};

/// Members whose slots a difference counts one by one; the rest is one number.
const COUNTED: usize = 4;

/// One thing that is not as it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In which service, if the configuration knows it.
    pub service: Option<ServiceName>,
    /// Of which server, if of one.
    pub backend: Option<BackendName>,
    /// What, in words.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.service, &self.backend) {
            (Some(service), Some(backend)) => write!(f, "{service}/{backend}: ")?,
            (Some(service), None) => write!(f, "{service}: ")?,
            _ => {}
        }
        f.write_str(&self.what)
    }
}

impl Core {
    /// Where `found`, read back from the kernel, differs from what was decided. Empty exactly if the two are equal.
    pub fn drift(&self, found: &KernelState) -> Vec<Difference> {
        let wanted = self.desired();
        let names = Names::of(self, wanted);
        let mut all = Vec::new();
        names.services(found, wanted, &mut all);
        names.tables(found, wanted, &mut all);
        names.members(found, wanted, &mut all);
        locals(found, wanted, &mut all);
        if found.settings != wanted.settings {
            all.push(general("the settings (SETTINGS) were changed".to_owned()));
        }
        all
    }
}

fn general(what: String) -> Difference {
    Difference { service: None, backend: None, what }
}

/// What the kernel's ids are called.
struct Names {
    services: BTreeMap<ServiceId, ServiceName>,
    members: BTreeMap<MemberId, MemberName>,
}

impl Names {
    fn of(core: &Core, wanted: &KernelState) -> Self {
        let services = core.config.iter().flat_map(|config| &config.services).filter_map(|service| {
            let info = wanted.services.get(&encode::service_key(&service.listen))?;
            Some((info.id, service.name.clone()))
        });
        let leaving = core.leaving.iter().map(|(&id, name)| (id, name.clone()));
        let members = core.members.iter().filter_map(|(name, member)| Some((member.id?, name.clone())));
        Self { services: services.collect(), members: leaving.chain(members).collect() }
    }

    fn member(&self, id: MemberId, what: String) -> Difference {
        match self.members.get(&id) {
            Some(name) => Difference { service: Some(name.service.clone()), backend: Some(name.backend.clone()), what },
            None => general(format!("member {id}: {what}")),
        }
    }

    fn services(&self, found: &KernelState, wanted: &KernelState, all: &mut Vec<Difference>) {
        for (key, info) in &wanted.services {
            let what = match found.services.get(key) {
                Some(there) if there == info => continue,
                Some(_) => "its entry in SERVICES was changed",
                None => "its entry in SERVICES was deleted, so its packets went to the host",
            };
            let service = self.services.get(&info.id).cloned();
            all.push(Difference { service, backend: None, what: what.to_owned() });
        }
        for key in found.services.keys().filter(|key| !wanted.services.contains_key(key)) {
            let protocol = if key.proto == 6 { "tcp" } else { "udp" };
            let listen = std::net::SocketAddr::new(encode::key_address(key), u16::from_be(key.port));
            all.push(general(format!("SERVICES has {listen}/{protocol}, which is not configured")));
        }
    }

    /// Tables of services whose entry is there: of others, that it is not has been said.
    fn tables(&self, found: &KernelState, wanted: &KernelState, all: &mut Vec<Difference>) {
        for (id, table) in &wanted.tables {
            let Some(there) = found.tables.get(id).filter(|there| *there != table) else { continue };
            let service = self.services.get(id).cloned();
            all.push(Difference { service, backend: None, what: self.table(there, table) });
        }
    }

    fn table(&self, found: &Table, wanted: &Table) -> String {
        if found.descriptor != wanted.descriptor {
            let (found, wanted) = (found.descriptor, wanted.descriptor);
            return format!(
                "its table is said to be {} slots at {} (generation {}), not {} at {} ({})",
                found.size(),
                found.offset(),
                found.generation(),
                wanted.size(),
                wanted.offset(),
                wanted.generation()
            );
        }
        let changed = found.slots.iter().zip(wanted.slots.iter()).filter(|(a, b)| a != b).count();
        let mut text = format!("{changed} of {} slots were changed", wanted.slots.len());
        let (had, has) = (counts(wanted), counts(found));
        let ids = had.keys().chain(has.keys().filter(|id| !had.contains_key(id)));
        let count = |of: &BTreeMap<MemberId, usize>, id| of.get(id).copied().unwrap_or(0);
        let moved: Vec<_> = ids.filter(|id| count(&had, id) != count(&has, id)).collect();
        for (n, id) in moved.iter().take(COUNTED).enumerate() {
            let who = self.members.get(id).map_or_else(|| format!("member {id}"), |name| name.backend.to_string());
            let _ = write!(
                text,
                "{} {who} has {} instead of {}",
                if n == 0 { ":" } else { "," },
                count(&has, id),
                count(&had, id)
            );
        }
        if moved.len() > COUNTED {
            let _ = write!(text, ", and {} more", moved.len() - COUNTED);
        }
        text
    }

    fn members(&self, found: &KernelState, wanted: &KernelState, all: &mut Vec<Difference>) {
        for (&id, member) in &wanted.members {
            let what = match found.members.get(&id) {
                Some(there) if there == member => continue,
                None => "its entry in MEMBERS was cleared".to_owned(),
                Some(there) if (there.addr, there.port) != (member.addr, member.port) => format!(
                    "its entry in MEMBERS led to {}",
                    std::net::SocketAddr::new(encode::member_address(there), u16::from_be(there.port as u16))
                ),
                Some(there) if there.hop != member.hop => "its next hop in MEMBERS was changed".to_owned(),
                Some(_) => "its entry in MEMBERS was changed".to_owned(),
            };
            all.push(self.member(id, what));
        }
        for &id in found.members.keys().filter(|id| !wanted.members.contains_key(id)) {
            all.push(self.member(id, "an entry in MEMBERS that nobody made".to_owned()));
        }
    }
}

/// Slots by member.
fn counts(table: &Table) -> BTreeMap<MemberId, usize> {
    table.slots.iter().fold(BTreeMap::new(), |mut counts, &id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

fn locals(found: &KernelState, wanted: &KernelState, all: &mut Vec<Difference>) {
    for (ip, kinds) in &wanted.locals {
        match found.locals.get(ip) {
            Some(there) if there == kinds => {}
            Some(_) => all.push(general(format!("the kinds of the address {ip} in LOCALS were changed"))),
            None => all.push(general(format!("the address {ip} was deleted from LOCALS"))),
        }
    }
    let strange = found.locals.keys().filter(|ip| !wanted.locals.contains_key(ip));
    all.extend(strange.map(|ip| general(format!("LOCALS has the address {ip}, which is not configured"))));
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use lb_common::abi::{Algorithm, Descriptor, Hop, Member, Meta, ServiceInfo, ServiceKey};
    use rstest::rstest;

    use super::super::api::{Author, Input, Output, Time};
    use super::*;
    use crate::control::testing;

    /// A core whose kernel holds what it decided for the configuration of the tests.
    fn core() -> Core {
        let mut core = Core::new(1);
        let now = Time { boot_ms: 1000, wall_ms: 1000 };
        let meta = Meta { arena_slots: 1 << 20, hz: 250, half_open_buckets: 1024, ..Meta::default() };
        core.handle(Input::Maps { meta, state: Box::default(), adopted: false }, now);
        core.handle(Input::Configure(Arc::new(testing::config()), Author::default()), now);
        for ip in testing::config().backends.values().filter_map(|backend| backend.ipv4) {
            let hop = Hop::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 250], 2);
            core.handle(Input::NextHop(ip.into(), Ok(hop)), now);
        }
        while let Some(output) = core.poll_output() {
            if let Output::Apply { id, .. } = output {
                core.handle(Input::Applied { id, result: Ok(()) }, now);
            }
        }
        core
    }

    fn words(core: &Core, change: impl FnOnce(&mut KernelState)) -> Vec<String> {
        let mut found = core.desired().clone();
        change(&mut found);
        core.drift(&found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn drift_of_what_was_decided_is_empty() {
        assert_eq!(words(&core(), |_| {}), [""; 0]);
    }

    #[test]
    fn drift_names_service_server_and_slots() {
        let core = core();
        let www = core.config.as_ref().unwrap().services[0].listen;
        let id = core.desired().services[&encode::service_key(&www)].id;
        let member = core.members.iter().find(|(name, _)| name.backend.as_str() == "web-02").unwrap().1.id.unwrap();
        let cleared = words(&core, |found| {
            found.members.remove(&member);
        });
        assert_eq!(cleared, ["www/web-02: its entry in MEMBERS was cleared"]);
        let led = words(&core, |found| found.members.get_mut(&member).unwrap().port = u32::from(9_u16.to_be()));
        assert_eq!(led, ["www/web-02: its entry in MEMBERS led to 10.0.0.2:9"]);

        // Without probes all three are in: weights 2, 1, 1.
        let mut before = 0;
        let text = words(&core, |found| {
            let table = found.tables.get_mut(&id).unwrap();
            let mut slots = table.slots.to_vec();
            before = slots.iter().filter(|slot| **slot == member).count();
            let theirs = slots.iter_mut().filter(|slot| **slot != member).take(5);
            theirs.for_each(|slot| *slot = member);
            table.slots = slots.into();
        });
        assert_eq!(text.len(), 1, "{text:?}");
        assert!(text[0].starts_with("www: 5 of 4099 slots were changed: "), "{text:?}");
        assert!(text[0].contains(&format!("web-02 has {} instead of {before}", before + 5)), "{text:?}");
    }

    type Change = fn(&mut KernelState, ServiceKey, IpAddr);

    #[rstest]
    #[case::settings(|found: &mut KernelState, _, _| found.settings.hz += 1, "SETTINGS")]
    #[case::address_gone(|found: &mut KernelState, _, ip| _ = found.locals.remove(&ip), "was deleted from LOCALS")]
    #[case::address_changed(|found: &mut KernelState, _, ip| *found.locals.get_mut(&ip).unwrap() ^= 3, "the kinds of")]
    #[case::address_added(|found: &mut KernelState, _, _| _ = found.locals.insert([9, 9, 9, 9].into(), 1), "has the address 9.9.9.9")]
    #[case::member_added(|found: &mut KernelState, _, _| _ = found.members.insert(999, Member::default()), "nobody made")]
    #[case::service_gone(|found: &mut KernelState, key, _| _ = found.services.remove(&key), "was deleted")]
    #[case::service_changed(|found: &mut KernelState, key, _| found.services.get_mut(&key).unwrap().flags ^= 1, "was changed")]
    #[case::service_added(|found: &mut KernelState, key, _| _ = found.services.insert(ServiceKey { port: 9, ..key }, ServiceInfo::default()), "which is not configured")]
    #[case::descriptor(|found: &mut KernelState, key, _| {
        let table = found.tables.get_mut(&found.services[&key].id).unwrap();
        let d = table.descriptor;
        table.descriptor = Descriptor::new(d.offset() + 1, d.size(), Algorithm::Maglev, d.generation());
    }, "its table is said to be")]
    fn drift_finds_a_change_of_any_map(#[case] change: Change, #[case] says: &str) {
        let core = core();
        let key = *core.desired().services.keys().next().unwrap();
        let ip = *core.desired().locals.keys().next().unwrap();
        let found = words(&core, |found| change(found, key, ip));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(says), "{found:?}");
    }
}
