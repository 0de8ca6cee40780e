//! From the names of a flow query to the ids by which the kernel knows them.

use std::collections::BTreeSet;

use lb_common::conntrack::Phase;

use crate::control::daemon::{ControlError, ErrorCode, FlowQuery, View};
use crate::io::bpf::FlowFilter;

/// All phases, by number.
const PHASES: std::ops::RangeInclusive<u32> = Phase::Opening as u32..=Phase::Closed as u32;

/// Resolves names by the newest picture.
pub fn filter(query: &FlowQuery, view: &View) -> Result<FlowFilter, ControlError> {
    let services = match &query.service {
        None => None,
        Some(name) => {
            let ids = view.roll_call.services.iter().filter(|s| s.name == *name).map(|s| s.id);
            Some(known(ids.collect(), || format!("there is no service {name}"), "`rollcall service list` lists them")?)
        }
    };
    let members = match &query.backend {
        None => None,
        Some(name) => {
            let all = view.roll_call.services.iter().flat_map(|s| &s.members);
            let ids = all.filter(|m| m.backend == *name).filter_map(|m| m.id);
            Some(known(
                ids.collect(),
                || format!("no service has a backend {name}"),
                "`rollcall backend list` lists them",
            )?)
        }
    };
    let phase = match &query.phase {
        None => None,
        Some(name) => Some(PHASES.filter_map(Phase::from_number).find(|p| p.name() == name).ok_or_else(|| {
            let names: Vec<&str> = PHASES.filter_map(Phase::from_number).map(Phase::name).collect();
            ControlError::new(ErrorCode::Usage, format!("there is no phase {name:?}"))
                .with_hint(format!("phases are {}", names.join(", ")))
        })?),
    };
    Ok(FlowFilter { services, members, client: query.client, phase, limit: query.limit })
}

fn known(ids: BTreeSet<u32>, message: impl FnOnce() -> String, hint: &str) -> Result<BTreeSet<u32>, ControlError> {
    if ids.is_empty() { Err(ControlError::new(ErrorCode::NotFound, message()).with_hint(hint)) } else { Ok(ids) }
}
