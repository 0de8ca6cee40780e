//! The attached interfaces as they were last seen: which of them went, came back as another device, or changed its MAC.

use lb_common::abi::MAX_LINKS;

use super::NetEvent;
use super::links::Links;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// Index of each interface; `None`: gone.
    present: Option<Vec<Option<u32>>>,
    macs: Option<[u64; MAX_LINKS]>,
}

impl Attached {
    /// What changed since the last time.
    pub(super) fn compare(&mut self, links: &Links, interfaces: &[String]) -> Vec<NetEvent> {
        let mut events = Vec::new();
        let now: Vec<_> = interfaces.iter().map(|name| links.by_name(name).map(|l| l.index)).collect();
        let before = self.present.replace(now.clone());
        for (i, name) in interfaces.iter().enumerate() {
            // All existed when the watcher was spawned.
            let was = before.as_ref().map_or(now[i].or(Some(0)), |b| b[i]);
            if was != now[i] {
                if was.is_some() {
                    events.push(NetEvent::LinkGone(name.clone()));
                }
                if now[i].is_some() {
                    events.push(NetEvent::LinkBack(name.clone()));
                }
            }
        }
        let macs = links.macs(interfaces);
        if self.macs.replace(macs) != Some(macs) {
            events.push(NetEvent::Links(macs));
        }
        events
    }
}
