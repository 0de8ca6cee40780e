//! Whether new flows go where they should: the roll call's last line of defence, which trusts no reason and no table but
//! counts.
//!
//! Two comparisons for each service, each over its own windows. *Table*: new flows of each member against its slots in the
//! live table; only of times in which the table stood still, so that each flow was picked from it. *Configured*: new flows
//! of a member against its configured weight, in times in which nothing was known against it; whoever then gets less than
//! that is out of rotation in truth, whatever tables and reasons say. Three windows running decide.
//!
//! Not judged: datagrams under `maglev`, since a client that always sends from one port always has the same member, and all
//! that is hashed without the client's port, for the same reason: such flows are not independent. Nor `least-conn`, which
//! gives a slow member fewer flows on purpose.

mod stats;
mod table;
mod weight;

use std::collections::BTreeMap;
use std::time::Duration;

use self::table::TableWindow;
use self::weight::WeightWindow;
use super::Core;
use super::api::{EventKind, Load, MemberName, Skew, Time};
use super::encode;
use super::kernel::MemberId;
use super::reason::ReasonKind;
use crate::config::model::{Algorithm, BackendName, HashFields, Protocol, Service};

/// Less likely than this by chance.
const P: f64 = 1e-6;
/// And at least so far off.
const OFF: f64 = 0.05;
/// Flows expected of a member that tell even half a share apart.
const ENOUGH: f64 = 200.0;
/// The shortest window.
const SHORTEST: Duration = Duration::from_secs(60);

/// One member at a count.
#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    /// Who.
    pub backend: BackendName,
    /// Its id in the kernel, if it has one.
    pub id: Option<MemberId>,
    /// Flows opened under that id, as counted; `None` if the kernel does not know the member: it then opens none.
    pub opened: Option<u64>,
    /// Slots in the live table.
    pub slots: u32,
    /// Configured weight.
    pub weight: u16,
    /// Whether anything was known against it since the last count.
    pub excused: bool,
}

/// New flows of a member between two counts.
#[derive(Clone, Copy, Debug)]
struct Share {
    flows: u64,
    /// Of the live table.
    table: f64,
    /// Of the configured weights, less what a table's whole slots may cost.
    configured: f64,
    excused: bool,
}

/// Flows opened by the last count, by member, and under which id.
type Counts = BTreeMap<BackendName, (Option<MemberId>, u64)>;

/// What is watched of one service.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    last: Counts,
    /// When that was.
    at: Option<Time>,
    /// Whether the table changed before the last count: that may have been read a moment before the change.
    moved: bool,
    table: TableWindow,
    weights: BTreeMap<BackendName, WeightWindow>,
}

impl Spread {
    /// Takes a count of all members. `size`: slots that a table may have. `steady`: the table is what it was at the last
    /// count, and no write was under way.
    pub fn count(&mut self, seats: &[Seat], size: u32, steady: bool, now: Time) {
        let moved = std::mem::replace(&mut self.moved, !steady);
        let last = std::mem::take(&mut self.last);
        self.last = seats.iter().map(|seat| (seat.backend.clone(), (seat.id, opened(seat, &last)))).collect();
        self.weights.retain(|name, _| seats.iter().any(|seat| seat.backend == *name));
        self.table.expire(now);
        self.weights.values_mut().for_each(|window| window.expire(now));
        let began = self.at.replace(now).unwrap_or(now);
        let Some(shares) = shares(seats, size, (&self.last, &last)) else { return };
        if steady && !moved {
            self.table.take(&shares, (began, now));
        } else {
            self.table.pause(&shares);
        }
        let total: u64 = shares.values().map(|share| share.flows).sum();
        for (name, share) in &shares {
            let window = self.weights.entry(name.clone()).or_default();
            window.take(name, *share, (total, shares.len()), (began, now));
        }
    }

    /// What is off, by now.
    fn found(&self) -> impl Iterator<Item = (Option<&BackendName>, Time, &str)> {
        let table = self.table.found().map(|(since, words)| (None, since, words));
        let weights =
            self.weights.iter().filter_map(|(name, w)| w.found().map(|(since, words)| (Some(name), since, words)));
        table.into_iter().chain(weights)
    }
}

/// Flows opened, by this count or, where there is none, the last.
fn opened(seat: &Seat, last: &Counts) -> u64 {
    let before = || last.get(&seat.backend).filter(|(id, _)| *id == seat.id).map_or(0, |(_, opened)| *opened);
    seat.opened.unwrap_or_else(before)
}

/// New flows since the last count; `None` if they cannot be told for every member: a counter began anew.
fn shares(seats: &[Seat], size: u32, (counts, last): (&Counts, &Counts)) -> Option<BTreeMap<BackendName, Share>> {
    let slots: f64 = seats.iter().map(|seat| f64::from(seat.slots)).sum();
    let weights: f64 = seats.iter().map(|seat| f64::from(seat.weight)).sum();
    let share = |seat: &Seat| {
        let ((id, opened), (before, began)) = (counts.get(&seat.backend)?, last.get(&seat.backend)?);
        let flows = opened.checked_sub(*began).filter(|_| id == before)?;
        let table = if slots > 0.0 { f64::from(seat.slots) / slots } else { 0.0 };
        // A table has whole slots: one less than its weight says is nobody's fault.
        let configured = (f64::from(seat.weight) / weights - 1.0 / f64::from(size)).max(0.0);
        Some((seat.backend.clone(), Share { flows, table, configured, excused: seat.excused }))
    };
    seats.iter().map(share).collect()
}

impl Core {
    /// Compares a count with tables and weights.
    pub(super) fn judge_distribution(&mut self, loads: &BTreeMap<MemberName, Load>) {
        let Some(config) = self.config.clone().filter(|_| self.configured) else { return };
        let touched = std::mem::take(&mut self.touched);
        self.spreads
            .retain(|name, _| config.services.iter().any(|service| service.name == *name && is_judged(service)));
        for service in config.services.iter().filter(|service| is_judged(service)) {
            let info = self.kernel.held().services.get(&encode::service_key(&service.listen));
            let descriptor = info.and_then(|info| Some(self.kernel.held().tables.get(&info.id)?.descriptor));
            let (spread, known) = self.spreads.remove(&service.name).unwrap_or_default();
            let steady = self.kernel.is_settled() && descriptor.is_some() && known == descriptor;
            let seats: Vec<Seat> = (service.members.iter())
                .filter_map(|member| {
                    let name = MemberName::of(service, member);
                    let watched = self.members.get(&name)?;
                    let slots = info.zip(watched.id).map_or(0, |(info, id)| self.kernel.slots(info.id, id));
                    let against = watched.reasons.iter().any(|reason| reason.kind != ReasonKind::Unverified);
                    Some(Seat {
                        backend: member.backend.clone(),
                        id: watched.id,
                        opened: loads.get(&name).map(|load| load.opened),
                        slots,
                        weight: watched.weight.get(),
                        excused: against || touched.contains(&name),
                    })
                })
                .collect();
            let mut next = spread.clone();
            next.count(&seats, service.table_size, steady, self.now);
            self.tell_distribution(service, &spread, &next);
            self.spreads.insert(service.name.clone(), (next, descriptor));
        }
    }

    fn tell_distribution(&mut self, service: &Service, before: &Spread, after: &Spread) {
        let list = |spread: &Spread| -> BTreeMap<Option<BackendName>, String> {
            spread.found().map(|(backend, _, words)| (backend.cloned(), words.to_owned())).collect()
        };
        let (before, after) = (list(before), list(after));
        let mut tell = |backend: &Option<BackendName>, kind, cause| {
            let (time, service) = (self.now, Some(service.name.clone()));
            let event = super::api::Event { time, backend: backend.clone(), service, kind, by: None, cause };
            self.outputs.push_back(super::api::Output::Event(event));
        };
        for (backend, words) in after.iter().filter(|(backend, _)| !before.contains_key(*backend)) {
            tell(backend, EventKind::DistributionOff, words.clone());
        }
        for (backend, words) in before.iter().filter(|(backend, _)| !after.contains_key(*backend)) {
            tell(backend, EventKind::DistributionWell, format!("no longer: {words}"));
        }
    }

    /// What is off, for the roll call.
    pub(super) fn skews(&self, now: Time) -> Vec<Skew> {
        let all =
            self.spreads.iter().flat_map(|(service, (spread, _))| spread.found().map(move |found| (service, found)));
        let skew = all.map(|(service, (backend, since, words))| Skew {
            service: service.clone(),
            backend: backend.cloned(),
            since: since.seen_at(now),
            words: words.to_owned(),
        });
        skew.collect()
    }
}

fn is_judged(service: &Service) -> bool {
    match service.algorithm {
        Algorithm::Maglev => service.hash == HashFields::FiveTuple && service.listen.protocol == Protocol::Tcp,
        Algorithm::RoundRobin => true,
        Algorithm::LeastConn | Algorithm::Source => false,
    }
}

#[cfg(test)]
mod tests;
