//! Next hops: what the neighbour tables say of each backend's address.
//!
//! A next hop that was lost takes a backend out of rotation, but the kernel keeps the last one that worked: flows under
//! way go on if the silence was only the neighbour protocol's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::abi::Hop;

use super::encode;
use super::kernel::KernelState;

#[derive(Debug)]
struct Fact {
    last: Option<Hop>,
    lost: Option<String>,
}

/// What is known of the addresses that are asked for.
#[derive(Debug, Default)]
pub struct Hops(BTreeMap<IpAddr, Fact>);

impl Hops {
    /// Asks for these addresses and no others; an address that is new starts with the hop that the kernel has for it.
    /// Whether the set changed.
    pub fn follow(&mut self, addresses: impl IntoIterator<Item = IpAddr>, kernel: &KernelState) -> bool {
        let mut old = std::mem::take(&mut self.0);
        let before = old.len();
        let mut kept = 0;
        for ip in addresses {
            self.0.entry(ip).or_insert_with(|| match old.remove(&ip) {
                Some(fact) => {
                    kept += 1;
                    fact
                }
                None => Fact { last: in_kernel(ip, kernel), lost: None },
            });
        }
        kept != before || self.0.len() != before
    }

    /// Takes an answer; whether it changed anything. Answers for other addresses are ignored.
    pub fn record(&mut self, ip: IpAddr, answer: Result<Hop, String>) -> bool {
        let Some(fact) = self.0.get_mut(&ip) else { return false };
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
        match self.0.get(&ip) {
            Some(Fact { lost: Some(why), .. }) => Err(why),
            Some(Fact { last: Some(hop), lost: None }) => Ok(*hop),
            _ => Err("not resolved yet"),
        }
    }

    /// Whether nothing has been answered yet.
    pub fn is_awaited(&self, ip: IpAddr) -> bool {
        self.0.get(&ip).is_none_or(|fact| fact.last.is_none() && fact.lost.is_none())
    }

    /// What the kernel's member holds: the last hop that worked, or an unresolved one.
    pub fn last(&self, ip: IpAddr) -> Hop {
        self.0.get(&ip).and_then(|fact| fact.last).unwrap_or_default()
    }

    /// The addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.0.keys().copied().collect()
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
        assert!(hops.follow([ip], &KernelState::default()));
        assert!(!hops.follow([ip], &KernelState::default()));
        assert_eq!(hops.usable(ip), Err("not resolved yet"));
        assert!(hops.record(ip, Ok(hop)) && !hops.record(ip, Ok(hop)));
        assert!(hops.record(ip, Err("gone".into())));
        assert_eq!((hops.usable(ip), hops.last(ip)), (Err("gone"), hop));
        assert!(hops.record(ip, Ok(Hop::default())));
        assert!(hops.usable(ip).is_err());
        assert!(hops.follow([], &KernelState::default()));
    }
}
