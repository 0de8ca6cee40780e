//! The invariant: every configured member has its share of the live table, or a reason why not.

use std::collections::BTreeSet;

use super::Core;
use super::api::{MemberCall, RollCall, ServiceCall};
use super::weight::UNIT;
use crate::config::model::Algorithm;

impl Core {
    /// Checks what must hold after every step; the error says what does not. Shares are checked once the kernel holds
    /// what was decided.
    pub fn check_invariants(&self) -> Result<(), String> {
        let Some(config) = self.config.as_ref().filter(|_| self.configured) else { return Ok(()) };
        let call = self.roll_call(self.now);
        let listed = |call: &RollCall| call.services.iter().map(|s| s.members.len()).sum::<usize>();
        let configured: usize = config.services.iter().map(|s| s.members.len()).sum();
        if listed(&call) != configured || call.services.len() != config.services.len() {
            return Err(format!("{configured} members are configured, {} are in the roll call", listed(&call)));
        }
        if call.settled && self.kernel.held() != self.kernel.target() {
            return Err("settled, but the kernel does not hold what is desired".to_owned());
        }
        let ids: BTreeSet<u32> = call.services.iter().map(|s| s.id).collect();
        if call.settled && ids.len() != call.services.len() {
            return Err(format!("{} services share {} ids", call.services.len(), ids.len()));
        }
        for (service, configured) in call.services.iter().zip(&config.services) {
            for member in &service.members {
                check_reasons(service, member)?;
            }
            if call.settled {
                self.check_shares(service, configured.algorithm)?;
            }
        }
        Ok(())
    }

    fn check_shares(&self, service: &ServiceCall, algorithm: Algorithm) -> Result<(), String> {
        let (_, size) = self.kernel.counts(service.id);
        let sum: f64 = service.members.iter().map(|m| f64::from(m.effective)).sum();
        let exact = |m: &MemberCall| if sum == 0.0 { 0.0 } else { f64::from(m.effective) / sum * f64::from(size) };
        if (size == 0) != (sum == 0.0) {
            return Err(format!("service {}: weights add up to {sum}, its table has {size} slots", service.name));
        }
        // Members whose share is less than one slot get one all the same, at the cost of the largest.
        let raised = service.members.iter().filter(|m| (0.0..1.0).contains(&exact(m)) && m.effective > 0).count();
        for member in &service.members {
            let slots = member.id.map_or(0, |id| self.kernel.slots(service.id, id));
            let who = format!("{}/{}", service.name, member.backend);
            if (slots > 0) != (member.effective > 0) || (slots > 0) != member.in_rotation {
                let rotation = if member.in_rotation { "in" } else { "out" };
                return Err(format!("{who}: {slots} slots, weight {}, {rotation} of rotation", member.effective));
            }
            if (f64::from(slots) - exact(member)).abs() > 1.0 + raised as f64 {
                return Err(format!("{who}: {slots} slots of {size} ({algorithm:?}) instead of {}", exact(member)));
            }
        }
        Ok(())
    }
}

fn check_reasons(service: &ServiceCall, member: &MemberCall) -> Result<(), String> {
    let who = || format!("{}/{}", service.name, member.backend);
    if member.effective < u32::from(member.weight) * UNIT && member.reasons.is_empty() {
        return Err(format!("{}: weight {} of {} without a reason", who(), member.effective, member.weight));
    }
    let undue = member.reasons.iter().find(|r| {
        let never = r.review_at.is_none() != r.kind.is_standby();
        never || r.review_at.is_some_and(|at| at < r.since) || r.cause.is_empty()
    });
    undue.map_or(Ok(()), |r| Err(format!("{}: reason {} without cause or term", who(), r.kind.name())))
}
