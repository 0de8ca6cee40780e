//! Next hops: what the neighbour tables say of each backend's address.
//!
//! A next hop that was lost takes a backend out of rotation, but the kernel keeps the last one that worked: flows under
//! way go on if the silence was only the neighbour protocol's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::abi::Hop;

use super::encode;
use super::kernel::KernelState;

/// A neighbour that was asked for may take so long to answer, ms; after that nobody waits for it.
const ANSWERED_WITHIN_MS: u64 = 5_000;

#[derive(Debug)]
struct Fact {
    last: Option<Hop>,
    lost: Option<String>,
    /// Until when an answer is waited for, CLOCK_BOOTTIME ms.
    awaited_until: u64,
}

/// What is known of the addresses that are asked for.
#[derive(Debug, Default)]
pub struct Hops {
    facts: BTreeMap<IpAddr, Fact>,
    /// Ends of waits, CLOCK_BOOTTIME ms.
    waits: BTreeSet<(u64, IpAddr)>,
}

impl Hops {
    /// Asks for these addresses and no others; an address that is new starts with the hop that the kernel has for it.
    /// Whether the set changed. `now_ms`: CLOCK_BOOTTIME.
    pub fn follow(&mut self, addresses: impl IntoIterator<Item = IpAddr>, kernel: &KernelState, now_ms: u64) -> bool {
        let mut old = std::mem::take(&mut self.facts);
        let awaited_until = now_ms.saturating_add(ANSWERED_WITHIN_MS);
        let before = old.len();
        let mut kept = 0;
        for ip in addresses {
            self.facts.entry(ip).or_insert_with(|| match old.remove(&ip) {
                Some(fact) => {
                    kept += 1;
                    fact
                }
                None => {
                    self.waits.insert((awaited_until, ip));
                    Fact { last: in_kernel(ip, kernel), lost: None, awaited_until }
                }
            });
        }
        kept != before || self.facts.len() != before
    }

    /// Takes an answer; whether it changed anything. Answers for other addresses are ignored.
    pub fn record(&mut self, ip: IpAddr, answer: Result<Hop, String>) -> bool {
        let Some(fact) = self.facts.get_mut(&ip) else { return false };
        let answer = answer.and_then(|hop| {
            if hop.is_resolved() { Ok(hop) } else { Err("its neighbour has no MAC address".to_owned()) }
        });
        let (last, lost) = match answer {
            Ok(hop) => (Some(hop), None),
            Err(why) => (fact.last, Some(why)),
        };
        let changed = last != fact.last || lost != fact.lost;
        (fact.last, fact.lost) = (last, lost);
        changed
    }

    /// The hop, or why new flows cannot go there.
    pub fn usable(&self, ip: IpAddr) -> Result<Hop, &str> {
        match self.facts.get(&ip) {
            Some(Fact { lost: Some(why), .. }) => Err(why),
            Some(Fact { last: Some(hop), lost: None, .. }) => Ok(*hop),
            _ => Err("not resolved yet"),
        }
    }

    /// Whether an answer is still waited for: whom nobody answers for does not count as coming for ever.
    pub fn is_awaited(&self, ip: IpAddr, now_ms: u64) -> bool {
        let waits = |fact: &Fact| fact.last.is_none() && fact.lost.is_none() && now_ms < fact.awaited_until;
        self.facts.get(&ip).is_some_and(waits)
    }

    /// Addresses whose wait is over by now, each told once.
    pub fn waited_for(&mut self, now_ms: u64) -> Vec<IpAddr> {
        let mut over = Vec::new();
        while self.waits.first().is_some_and(|(at, _)| *at <= now_ms) {
            over.extend(self.waits.pop_first().map(|(_, ip)| ip));
        }
        over
    }

    /// When the next wait is over, CLOCK_BOOTTIME ms.
    pub fn next_ms(&self) -> Option<u64> {
        self.waits.first().map(|(at, _)| *at)
    }

    /// What the kernel's member holds: the last hop that worked, or an unresolved one.
    pub fn last(&self, ip: IpAddr) -> Hop {
        self.facts.get(&ip).and_then(|fact| fact.last).unwrap_or_default()
    }

    /// The addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.facts.keys().copied().collect()
    }
}

fn in_kernel(ip: IpAddr, kernel: &KernelState) -> Option<Hop> {
    let mut members = kernel.members.values();
    members.find(|m| m.hop.is_resolved() && encode::member_address(m) == ip).map(|m| m.hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_lost_is_unusable_but_stays_for_flows_under_way() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let hop = Hop::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], 3);
        let mut hops = Hops::default();
        assert!(!hops.record(ip, Ok(hop)), "nobody asked");
        assert!(hops.follow([ip], &KernelState::default(), 0));
        assert!(!hops.follow([ip], &KernelState::default(), 0));
        assert_eq!(hops.usable(ip), Err("not resolved yet"));
        assert!(hops.record(ip, Ok(hop)) && !hops.record(ip, Ok(hop)));
        assert!(hops.record(ip, Err("gone".into())));
        assert_eq!((hops.usable(ip), hops.last(ip)), (Err("gone"), hop));
        assert!(hops.record(ip, Ok(Hop::default())));
        assert!(hops.usable(ip).is_err());
        assert!(hops.follow([], &KernelState::default(), 0));
    }

    #[test]
    fn hop_that_nobody_answers_for_is_awaited_for_a_while_only() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        let mut hops = Hops::default();
        assert!(!hops.is_awaited(ip, 0), "not asked for");
        hops.follow([ip], &KernelState::default(), 1_000);
        assert!(hops.is_awaited(ip, 5_999) && hops.waited_for(5_999).is_empty());
        assert_eq!(hops.next_ms(), Some(6_000));
        assert!(!hops.is_awaited(ip, 6_000));
        assert_eq!((hops.waited_for(6_000), hops.next_ms()), (vec![ip], None));
        hops.record(ip, Err("silent".into()));
        assert!(!hops.is_awaited(ip, 1_500));
    }
}
