//! The auditor: how often foreign changes are repaired, and the audit on demand, which looks at everything at once.
//!
//! Where something changes the maps again and again, two controllers fight, and repairing on would hide it: after three
//! times in ten minutes it is left and told, until someone asks for a repair or the ten minutes are over.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::actor::Actor;
use super::{clock, placing};
use crate::control::daemon::{self, ControlError};
use crate::control::schema::{AuditReport, Check, CheckResult, timestamp};
use crate::core::api::{Event, EventKind};
use crate::core::drift::Difference;

/// So many repairs within [`WITHIN`].
pub(super) const REPAIRS: usize = 3;
/// See [`REPAIRS`].
const WITHIN: Duration = Duration::from_secs(600);
/// Differences that have an event, or a check, of their own; the rest is a number.
const NAMED: usize = 16;

/// What the auditor remembers.
#[derive(Debug, Default)]
pub struct Auditor {
    /// Of the maps.
    pub(super) maps: Repairs,
    /// Of the program on the interfaces.
    pub(super) program: Repairs,
    /// What was found last and is not repaired yet: told once.
    pub(super) told: Vec<Difference>,
    /// Interfaces that the program was taken off, and that are left so.
    pub(super) left: BTreeSet<String>,
    /// Interfaces that went, and have not come back with the program yet.
    pub(super) gone: BTreeSet<String>,
}

/// When repairs were made.
#[derive(Debug, Default)]
pub struct Repairs(VecDeque<Instant>);

impl Repairs {
    /// Whether one more may be made at `now`; if so, it counts.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|then| now.duration_since(*then) >= WITHIN) {
            self.0.pop_front();
        }
        let may = self.0.len() < REPAIRS;
        if may {
            self.0.push_back(now);
        }
        may
    }
}

/// Differences as one phrase: the first, and how many more.
pub(super) fn summary(differences: &[Difference]) -> String {
    match differences {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
    }
}

impl Actor {
    /// An event for each difference, and one for those beyond a few.
    pub(super) fn tell_of(&mut self, differences: &[Difference], kind: EventKind) {
        let time = clock::now();
        for Difference { service, backend, what } in differences.iter().take(NAMED).cloned() {
            self.picture.record(Event { time, backend, service, kind, by: None, cause: what });
        }
        if differences.len() > NAMED {
            let cause = format!("and {} more", differences.len() - NAMED);
            self.picture.record(Event { time, backend: None, service: None, kind, by: None, cause });
        }
    }

    /// As [`Actor::tell_of`], of interfaces: `what` ends with the name.
    pub(super) fn tell_of_interfaces<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a String>,
        what: &str,
        kind: EventKind,
    ) {
        let difference = |name| Difference { service: None, backend: None, what: format!("{what} {name}") };
        let all: Vec<Difference> = names.into_iter().map(difference).collect();
        self.tell_of(&all, kind);
    }

    /// Compares everything, now; `repair` says who wants it repaired, if somebody does.
    pub(super) async fn audit(&mut self, repair: Option<daemon::Actor>) -> Result<AuditReport, ControlError> {
        let mut repaired = Vec::new();
        if let Some(by) = repair {
            tracing::warn!(uid = by.uid, loginuid = by.loginuid, "auditing, to repair what differs");
            let before = self.differences().unwrap_or_default();
            let before = before.into_iter().chain(self.astray()).collect::<Vec<_>>();
            (self.upkeep.auditor.maps, self.upkeep.auditor.program) = Default::default();
            self.verify_now().await;
            if !self.astray().is_empty() {
                self.place_again().await;
            }
            // If nothing can be read, nothing is known to be repaired; the checks below say why.
            if let Ok(after) = self.differences() {
                let after: Vec<Difference> = after.into_iter().chain(self.astray()).collect();
                repaired = before.iter().filter(|d| !after.contains(d)).map(ToString::to_string).collect();
            }
        }
        let mut checks = self.maps_checks();
        checks.push(self.tables_check());
        checks.push(self.pins_check());
        checks.extend(self.program_checks());
        checks.push(self.addresses_check());
        Ok(AuditReport::new(timestamp(clock::now()), repaired, checks))
    }

    /// Where the maps differ from what was decided; an error if they cannot be read.
    fn differences(&self) -> Result<Vec<Difference>, String> {
        let state = block_in_place(|| self.plane.read_state()).map_err(|e| e.to_string())?;
        Ok(self.core.drift(&state))
    }

    /// Program and addresses that are not where they should be.
    fn astray(&self) -> Vec<Difference> {
        let program = self.lost().into_iter().map(|name| format!("the program was off {name}"));
        let addresses = self.missing_addresses().unwrap_or_default();
        let addresses = addresses.into_iter().map(|place| format!("{place} was missing"));
        let all = program.chain(addresses);
        all.map(|what| Difference { service: None, backend: None, what }).collect()
    }

    fn maps_checks(&self) -> Vec<Check> {
        let mend = "find out who writes to them (`bpftool`, a second controller), then `rollcall audit --repair`";
        let differences = match self.differences() {
            Err(e) => return vec![fail("maps", format!("cannot be read back: {e}"), "look at the daemon's log")],
            Ok(differences) => differences,
        };
        if differences.is_empty() {
            let decided = self.core.desired();
            let slots: usize = decided.tables.values().map(|table| table.slots.len()).sum();
            let (services, members) = (decided.services.len(), decided.members.len());
            return vec![ok("maps", format!("{services} services, {members} members, {slots} slots: as decided"))];
        }
        let mut checks: Vec<Check> =
            differences.iter().take(NAMED).map(|d| fail("maps", d.to_string(), mend)).collect();
        if differences.len() > NAMED {
            checks.push(fail("maps", format!("and {} differences more", differences.len() - NAMED), mend));
        }
        checks
    }

    /// Whether the tables give each member its share, by what the core holds for true.
    fn tables_check(&self) -> Check {
        let now = clock::now();
        if let Err(why) = self.core.check_invariants() {
            return fail("tables", why, "report it with the daemon's log; a restart of the daemon decides anew");
        }
        let call = self.core.roll_call(now);
        let members = || call.services.iter().flat_map(|s| &s.members);
        let evidence = format!(
            "{} of {} members have slots, each its share; every other one has a reason",
            members().filter(|m| m.in_rotation).count(),
            members().count()
        );
        if call.settled {
            return ok("tables", evidence);
        }
        let evidence = "the kernel does not hold all that was decided yet".to_owned();
        let mend = Some("repeat it; if it lasts, the warnings of `rollcall status` say why".to_owned());
        Check { name: "tables".into(), result: CheckResult::Warn, evidence, why: None, mend }
    }

    fn pins_check(&self) -> Check {
        match self.missing_pins() {
            missing if missing.is_empty() => {
                ok("pins", format!("all are below {}", self.running.config.control.pin_dir.display()))
            }
            missing => fail(
                "pins",
                format!("missing below {}: {}", self.running.config.control.pin_dir.display(), missing.join(", ")),
                "the next start cannot take the data plane over: plan `rollcall down` and a start, which ends every \
                 connection",
            ),
        }
    }

    fn program_checks(&self) -> Vec<Check> {
        let attached = match block_in_place(|| self.plane.attached()) {
            Ok(attached) => attached,
            Err(e) => return vec![fail("program", format!("cannot be looked for: {e}"), "look at the daemon's log")],
        };
        let lost = self.lost();
        let one = |name: &String| {
            let check = format!("program on {name}");
            match attached.iter().find(|a| a.interface == *name) {
                Some(a) => ok(&check, format!("attached, {}", a.mode.name())),
                None if lost.contains(name) => fail(
                    &check,
                    "not attached".into(),
                    "`rollcall audit --repair` puts it back; find out who took it off",
                ),
                None => ok(&check, "attached, by a link that is not pinned".into()),
            }
        };
        let interfaces = if self.placing.is_placed() { placing::interfaces(&self.running.config) } else { &[] };
        interfaces.iter().map(one).collect()
    }

    fn addresses_check(&self) -> Check {
        if !self.running.config.edge.manage_vips {
            return ok(
                "addresses",
                "yours to place (edge.manage_vips is off); `rollcall doctor` looks for them".into(),
            );
        }
        match self.missing_addresses() {
            Err(e) => fail("addresses", format!("cannot be listed: {e}"), "look at the daemon's log"),
            Ok(missing) if missing.is_empty() => ok("addresses", "all are on their interfaces".into()),
            Ok(missing) => fail(
                "addresses",
                format!("missing: {}", missing.join(", ")),
                "`rollcall audit --repair` adds them; the warnings of `rollcall status` say what is in the way",
            ),
        }
    }

    /// Addresses that the daemon placed and that are not there, each with its interface.
    fn missing_addresses(&self) -> Result<Vec<String>, String> {
        if !self.placing.is_placed() {
            return Ok(Vec::new());
        }
        let there: BTreeSet<_> = getifaddrs()
            .map_err(|e| e.to_string())?
            .filter_map(|found| {
                let storage = found.address?;
                let v4 = storage.as_sockaddr_in().map(|a| std::net::IpAddr::V4(a.ip()));
                let v6 = || storage.as_sockaddr_in6().map(|a| std::net::IpAddr::V6(a.ip()));
                Some((v4.or_else(v6)?, found.interface_name))
            })
            .collect();
        let wanted = placing::placements(&self.running.config, self.core.leaving_addresses());
        let missing = wanted.into_iter().filter(|p| !there.contains(&(p.address, p.interface.clone())));
        Ok(missing.map(|p| format!("{} on {}", p.address, p.interface)).collect())
    }
}

fn ok(name: &str, evidence: String) -> Check {
    Check { name: name.to_owned(), result: CheckResult::Ok, evidence, why: None, mend: None }
}

fn fail(name: &str, evidence: String, mend: &str) -> Check {
    Check { name: name.to_owned(), result: CheckResult::Fail, evidence, why: None, mend: Some(mend.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_three_within_ten_minutes_and_then_again() {
        let mut repairs = Repairs::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let made: Vec<bool> = [0, 10, 20, 30, 599].map(|s| repairs.take(at(s))).into();
        assert_eq!(made, [true, true, true, false, false]);
        assert!(repairs.take(at(600)), "the first is ten minutes ago");
        assert!(!repairs.take(at(605)));
        assert!(repairs.take(at(610)));
    }

    #[test]
    fn summary_names_the_first_difference_and_counts_the_rest() {
        let one = |what: &str| Difference { service: None, backend: None, what: what.into() };
        assert_eq!(summary(&[one("a")]), "a");
        assert_eq!(summary(&[one("a"), one("b"), one("c")]), "a; and 2 more");
    }
}
