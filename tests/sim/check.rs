//! What holds after every step of a story.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rollcall::config::model::Listen;
use rollcall::core::api::Time;
use rollcall::core::reason::ReasonKind;

use crate::world::World;
use crate::{capacity, leases, limits, resort};

/// Since when each reason stands: by what the member is, not by its name, since a reload may rename it, or give the name
/// to something else.
pub type Reasons = BTreeMap<(Listen, IpAddr, u16, ReasonKind), Time>;

impl World {
    /// What holds after every step; maps and reasons are compared after those that may have changed them.
    pub fn check(&mut self, changed: bool) {
        if let Err(broken) = self.core.check_invariants() {
            panic!("{broken}\n{:#?}", self.core.roll_call(self.now));
        }
        if !changed {
            return;
        }
        let call = self.core.roll_call(self.now);
        assert!(call.skews.is_empty() || !self.honest, "honest flows: {:#?}", call.skews);
        leases::check(self, &call);
        resort::check(self, &call);
        limits::check(&call);
        capacity::check(self, &call);
        if call.settled {
            assert_eq!(&self.kernel.read_state(), self.core.desired(), "settled, but the maps differ");
        }
        let mut reasons = BTreeMap::new();
        for service in &call.services {
            for member in &service.members {
                for reason in &member.reasons {
                    let key = (service.listen, member.address, member.port, reason.kind);
                    let before = self.reasons.get(&key).copied();
                    // A lease's reason is as old as the lease, whatever was known of it; and a lease that begins and is
                    // recalled within a step begins a return anew.
                    let leased = matches!(
                        reason.kind,
                        ReasonKind::Drained | ReasonKind::Maintenance | ReasonKind::Returning | ReasonKind::Ramping
                    );
                    assert!(
                        leased || before.map_or(reason.since.boot_ms >= self.checked.boot_ms, |b| reason.since == b),
                        "{key:?} forgot since when it stands"
                    );
                    reasons.insert(key, reason.since);
                }
            }
        }
        self.reasons = reasons;
        self.checked = self.now;
    }
}
