//! Counts of open flows, three times: by the counters (opened − closed), by the one word that `least-conn` compares, and by
//! the flows themselves. Each counter has one kind of writer, so a lasting difference is an error of the program, or foreign
//! hands in its maps.

use std::collections::BTreeMap;

use crate::control::daemon::View;
use crate::control::schema::{Check, CheckResult};
use crate::io::bpf::types::{Counters, MemberCounters};
use crate::io::bpf::{BpfError, DataPlane};

/// Packets go on while maps are read: so many times a difference may be theirs.
const TRIES: usize = 3;
/// Members that the result names.
const NAMED: usize = 5;

/// Compares the two counts.
pub fn check(plane: &DataPlane, view: &View) -> Check {
    let name = "flow counts".to_owned();
    let short = |result, evidence| Check { name: name.clone(), result, evidence, why: None, mend: None };
    let mut wrong = Vec::new();
    for _ in 0..TRIES {
        let flows;
        (flows, wrong) = match once(plane) {
            Err(e) => return short(CheckResult::Fail, format!("cannot be counted: {e}")),
            Ok(counted) => counted,
        };
        if wrong.is_empty() {
            let evidence =
                format!("{flows} open flows, as many as opened less closed and as least-conn compares, of each member");
            return short(CheckResult::Ok, evidence);
        }
    }
    let mut evidence: Vec<String> = wrong.iter().take(NAMED).map(|off| off.in_words(view)).collect();
    if wrong.len() > NAMED {
        evidence.push(format!("and {} members more", wrong.len() - NAMED));
    }
    Check {
        name,
        result: CheckResult::Fail,
        evidence: evidence.join("; "),
        why: Some("numbers of open flows in status, metrics and limits are wrong by so much".into()),
        mend: Some(
            "if nobody wrote to the maps, report it with the daemon's log; counts begin anew with a new data plane \
             (`rollcall down` and a start, which ends every connection)"
                .into(),
        ),
    }
}

fn once(plane: &DataPlane) -> Result<(u64, Vec<Off>), BpfError> {
    let before = plane.counters()?;
    let flows = plane.active_by_member()?;
    let after = plane.counters()?;
    Ok((flows.values().sum(), compare(&before, &flows, &after)))
}

/// A member whose counts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Off {
    member: u32,
    flows: u64,
    opened: u64,
    closed: u64,
    compared: u64,
}

impl Off {
    fn in_words(&self, view: &View) -> String {
        let places = view.roll_call.services.iter().flat_map(|s| s.members.iter().map(move |m| (s, m)));
        let place = places.into_iter().find(|(_, m)| m.id == Some(self.member));
        let who = place.map_or_else(|| format!("member {}", self.member), |(s, m)| format!("{}/{}", s.name, m.backend));
        let Self { flows, opened, closed, compared, .. } = self;
        format!(
            "{who}: {flows} open flows, but {opened} opened and {closed} closed, and {compared} compared by least-conn"
        )
    }
}

/// Members whose flows, counted between two readings of the counters, are not what these leave possible.
fn compare(before: &Counters, flows: &BTreeMap<u32, u64>, after: &Counters) -> Vec<Off> {
    let off = |(&member, now): (&u32, &MemberCounters)| {
        let (opened, closed) = (now.stats.opened, now.stats.closed);
        let then = before.members.get(&member).copied().unwrap_or_default().stats;
        let moved = (opened.saturating_sub(then.opened)).saturating_add(closed.saturating_sub(then.closed));
        let flows = flows.get(&member).copied().unwrap_or(0);
        // More closed than opened is wrong however many there are.
        let wrong = closed > opened || [flows, now.compared].iter().any(|n| n.abs_diff(opened - closed) > moved);
        wrong.then_some(Off { member, flows, opened, closed, compared: now.compared })
    };
    after.members.iter().filter_map(off).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::abi::MemberStats;
    use rstest::rstest;

    use super::*;
    use crate::control::testing;

    fn counters(opened: u64, closed: u64) -> Counters {
        let stats = MemberStats { opened, closed, ..MemberStats::default() };
        let member = MemberCounters { stats, compared: opened.saturating_sub(closed), ..MemberCounters::default() };
        Counters { members: BTreeMap::from([(1, member)]), ..Counters::default() }
    }

    #[rstest]
    #[case::equal((10, 4), 6, (10, 4), true)]
    #[case::one_too_many((10, 4), 7, (10, 4), false)]
    #[case::one_too_few((10, 4), 5, (10, 4), false)]
    #[case::within_what_moved((10, 4), 7, (12, 4), true)]
    #[case::beyond_what_moved((10, 4), 4, (11, 4), false)]
    #[case::more_closed_than_opened((4, 5), 0, (4, 5), false)]
    fn counts_differ_by_no_more_than_what_moved_meanwhile(
        #[case] before: (u64, u64),
        #[case] flows: u64,
        #[case] after: (u64, u64),
        #[case] right: bool,
    ) {
        let flows = BTreeMap::from([(1, flows)]);
        let off = compare(&counters(before.0, before.1), &flows, &counters(after.0, after.1));
        assert_eq!(off.is_empty(), right, "{off:?}");
    }

    #[test]
    fn count_that_least_conn_compares_must_agree_too() {
        let (mut now, flows) = (counters(10, 4), BTreeMap::from([(1, 6)]));
        assert!(compare(&now, &flows, &now).is_empty());
        now.members.get_mut(&1).unwrap().compared = 7;
        assert_eq!(compare(&now, &flows, &now).len(), 1);
    }

    #[test]
    fn member_that_is_off_is_named_as_the_configuration_has_it() {
        let off = |member| Off { member, flows: 1, opened: 3, closed: 0, compared: 3 }.in_words(&testing::view());
        assert_eq!(off(2), "www/web-02: 1 open flows, but 3 opened and 0 closed, and 3 compared by least-conn");
        assert_eq!(off(99), "member 99: 1 open flows, but 3 opened and 0 closed, and 3 compared by least-conn");
    }
}
