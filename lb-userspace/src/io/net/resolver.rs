//! Next hops of the addresses that are wanted: from the route by its neighbour to what the program writes into frames.
//! Keeps the neighbours fresh meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use lb_common::abi::Hop;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};

use super::hops::{self, Way};
use super::links::Links;
use super::neighbours::{self, Entry, Key, Need, Tracker};
use super::{NetError, routes};

/// An address whose next hop is wanted.
#[derive(Default)]
struct Target {
    way: Option<Result<Way, String>>,
    told: Option<Result<Hop, String>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Resolver {
    targets: BTreeMap<IpAddr, Target>,
    trackers: HashMap<Key, Tracker>,
    entries: HashMap<Key, Entry>,
}

impl Resolver {
    /// Wants these, and no others.
    pub(super) fn follow(&mut self, addresses: Vec<IpAddr>) {
        let mut old = std::mem::take(&mut self.targets);
        self.targets = addresses.into_iter().map(|a| (a, old.remove(&a).unwrap_or_default())).collect();
    }

    /// Reads routes and neighbours anew.
    pub(super) async fn read(&mut self, handle: &Handle, links: &Links, attached: &[String]) -> Result<(), NetError> {
        for (address, target) in &mut self.targets {
            let route = routes::lookup(handle, *address).await;
            target.way = Some(route.and_then(|route| hops::way(*address, route, links, attached)));
        }
        let ways = self.targets.values().filter_map(|t| t.way.as_ref()?.as_ref().ok());
        let mut old = std::mem::take(&mut self.trackers);
        for way in ways {
            let tracker = old.remove(&way.neighbour);
            self.trackers.entry(way.neighbour).or_insert_with(|| tracker.unwrap_or(Tracker::new()));
        }
        self.entries = neighbours::read(handle).await?;
        self.entries.retain(|key, _| self.trackers.contains_key(key));
        Ok(())
    }

    /// Takes in that an entry of the neighbour cache changed, or went. Whether it is one in use: others change all the
    /// time.
    pub(super) fn note(&mut self, message: &NeighbourMessage, there: bool) -> bool {
        let Some((key, entry)) = neighbours::parse(message).filter(|(key, _)| self.trackers.contains_key(key)) else {
            return false;
        };
        if there {
            self.entries.insert(key, entry);
        } else {
            self.entries.remove(&key);
        }
        true
    }

    /// Looks at each neighbour in use, asks where needed, and returns the answers that changed.
    pub(super) async fn resolve(&mut self, handle: &Handle) -> Vec<(IpAddr, Result<Hop, String>)> {
        let now = Instant::now();
        let mut known = HashMap::new();
        for (key, tracker) in &mut self.trackers {
            let (state, need) = tracker.observe(self.entries.get(key).copied(), now);
            known.insert(*key, state);
            let Some(need) = need else { continue };
            match neighbours::ask(handle, *key, need).await {
                // The kernel does not notify of this state; see `Tracker::observe`.
                Ok(()) if need == Need::Solicit => {
                    self.entries.insert(*key, Entry { state: NeighbourState::Incomplete, mac: None });
                }
                Ok(()) => {}
                Err(error) => {
                    let error =
                        NetError::refused(format!("make the kernel look for {} (interface {})", key.1, key.0), &error);
                    tracing::warn!(%error, "neighbour not asked");
                }
            }
        }
        let mut changed = Vec::new();
        for (address, target) in &mut self.targets {
            let answer = match &target.way {
                Some(Ok(way)) => known.get(&way.neighbour).and_then(|known| way.hop(*known)),
                Some(Err(why)) => Some(Err(why.clone())),
                None => None,
            };
            if let Some(answer) = answer
                && target.told.as_ref() != Some(&answer)
            {
                target.told = Some(answer.clone());
                changed.push((*address, answer));
            }
        }
        changed
    }
}
