//! Program and addresses on the interfaces: when they go there, and what happens when interfaces change.
//!
//! Cold, the program is attached last, when the first table is decided and written, and the addresses come after it: so
//! no packet meets an empty table, and none reaches the host's own stack to be answered with a reset. Where the program
//! was found attached, it never left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::block_in_place;

use super::actor::Actor;
use super::bpf_error;
use super::error::system;
use super::picture::Topic;
use super::{clock, notify};
use crate::config::model::Config;
use crate::control::daemon::ControlError;
use crate::core::api::{EventKind, Health, MemberCall, Time};
use crate::core::reason::ReasonKind;
use crate::io::bpf::types::{Attached, Mode};
use crate::io::net::{self, Managed, NetEvent, NetHandle, Placement};

/// Events that may wait for the actor.
const NET_QUEUE: usize = 256;
/// How long a cold start waits for the next hops of healthy members.
const HOP_GRACE: Duration = Duration::from_secs(3);

/// The network watcher of one set of interfaces, and the addresses that are the daemon's to remove.
pub struct Net {
    /// The watcher.
    pub handle: NetHandle,
    /// What it saw.
    pub events: mpsc::Receiver<NetEvent>,
    /// Added by this run or an earlier one.
    pub own: BTreeSet<Placement>,
}

impl Net {
    /// Watches the interfaces of `config`.
    pub fn watch(config: &Config, own: BTreeSet<Placement>) -> Result<Self, ControlError> {
        let (events, received) = mpsc::channel(NET_QUEUE);
        let handle = net::spawn(interfaces(config).to_vec(), events).map_err(system)?;
        Ok(Self { handle, events: received, own })
    }
}

/// Whether the program is where the configuration wants it.
pub struct Placing {
    adopted: bool,
    /// Whether the program was found on an interface.
    attached: bool,
    placed: bool,
    started: Time,
}

impl Placing {
    /// Before the first placement.
    pub fn new(adopted: bool, attached: bool, started: Time) -> Self {
        Self { adopted, attached, placed: false, started }
    }

    /// Whether the maps were found pinned.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Whether program and addresses were once brought up.
    pub fn is_placed(&self) -> bool {
        self.placed
    }
}

impl Actor {
    /// Brings program and addresses up once it is time. An error is the end of a start.
    pub(super) async fn place_if_ready(&mut self) -> Result<(), ControlError> {
        if self.placing.placed || !self.may_place() {
            return Ok(());
        }
        let config = self.running.config.clone();
        self.attach(&config)?;
        self.place_addresses(&config).await;
        self.placing.placed = true;
        self.publish();
        notify::send(notify::READY);
        tracing::info!("ready: {} services, {} backends", config.services.len(), config.backends.len());
        Ok(())
    }

    /// Where the program already runs, at once. Else, also on maps whose daemon died before it got so far: the kernel holds what was decided, every member has had a result or its grace, and those that may serve do.
    fn may_place(&self) -> bool {
        if self.placing.attached || self.running.config.services.is_empty() {
            return true;
        }
        let now = clock::now();
        let call = self.core.roll_call(now);
        let members = || call.services.iter().flat_map(|s| &s.members);
        let judged =
            |m: &MemberCall| m.health != Health::Unknown || m.reasons.iter().any(|r| r.kind == ReasonKind::Unverified);
        // A healthy member that is out waits for its next hop: usually for milliseconds, without a neighbour for ever.
        let waited = now >= self.placing.started + HOP_GRACE;
        call.settled
            && members().all(judged)
            && (waited || members().all(|m| m.in_rotation || m.health == Health::Down))
    }

    /// Follows a change of the configuration's interfaces, mode and addresses. Returns what is wrong with the addresses.
    pub(super) async fn follow(&mut self, old: &Config, new: &Config) -> Result<Vec<String>, ControlError> {
        if interfaces(old) != interfaces(new) {
            self.watch(new)?;
        }
        if !self.placing.placed {
            return Ok(Vec::new());
        }
        if interfaces(old) != interfaces(new) || old.edge.mode != new.edge.mode {
            self.attach(new)?;
        }
        Ok(self.place_addresses(new).await)
    }

    /// Begins to watch the interfaces of `config`; on an error, those before are watched on.
    fn watch(&mut self, config: &Config) -> Result<(), ControlError> {
        self.net = Net::watch(config, self.net.own.clone())?;
        self.net.handle.resolve(self.resolving.clone());
        Ok(())
    }

    /// A watcher that ended would leave next hops and addresses as they are for ever: begins anew.
    pub(super) async fn watch_again(&mut self) {
        if !self.net.handle.is_ended() {
            return;
        }
        let config = self.running.config.clone();
        match self.watch(&config) {
            Ok(()) => {
                tracing::error!("the network watcher had ended; it was started anew");
                self.picture.clear(Topic::Watch);
                self.place_again().await;
            }
            Err(e) => {
                let text = format!("next hops and addresses are not followed, which is tried again: {}", e.message);
                self.picture.warn(Topic::Watch, text);
            }
        }
    }

    /// Puts the program on the configured interfaces, and nowhere else.
    fn attach(&mut self, config: &Config) -> Result<(), ControlError> {
        let interfaces = interfaces(config);
        let attached =
            block_in_place(|| self.plane.attach(interfaces, config.edge.mode)).map_err(bpf_error::for_people)?;
        let slow: Vec<String> = attached
            .iter()
            .filter(|a| a.mode == Mode::Generic && a.fallback.is_some())
            .map(|a| format!("{} ({})", a.interface, a.fallback.as_deref().unwrap_or_default()))
            .collect();
        if slow.is_empty() {
            self.picture.clear(Topic::Mode);
        } else {
            self.picture.warn(Topic::Mode, format!("generic mode, which is slower, on {}", slow.join(", ")));
        }
        self.picture.clear(Topic::Attach);
        let places = |all: &[Attached]| all.iter().map(|a| (a.interface.clone(), a.mode)).collect::<Vec<_>>();
        let (before, now) = (places(&self.picture.attached), places(&attached));
        self.picture.attached = attached;
        if before != now {
            let words: Vec<String> = now.iter().map(|(name, mode)| format!("{name} ({})", mode.name())).collect();
            let cause = if words.is_empty() { "to no interface".to_owned() } else { words.join(", ") };
            self.picture.happened(EventKind::ProgramAttached, None, cause);
        }
        Ok(())
    }

    /// An attached interface is gone, and with it the program there.
    pub(super) fn link_gone(&mut self, name: &str) {
        self.picture.attached.retain(|a| a.interface != name);
        let name = name.to_owned();
        if self.upkeep.auditor.gone.insert(name.clone()) {
            self.tell_of_interfaces([&name], "gone, with the program on it, is interface", EventKind::DriftFound);
        }
        self.picture.warn(Topic::Attach, format!("interface {name} is gone; the program returns with it"));
    }

    /// Puts the program back where it should be, after an interface came back or someone took it off.
    pub(super) async fn place_again(&mut self) {
        if !self.placing.placed {
            return;
        }
        let config = self.running.config.clone();
        match self.attach(&config) {
            Ok(()) => {
                drop(self.place_addresses(&config).await);
                let mut back = std::mem::take(&mut self.upkeep.auditor.gone);
                // One that the configuration no longer names has not come back.
                back.retain(|name| interfaces(&config).contains(name));
                self.tell_of_interfaces(&back, "the program is again on", EventKind::DriftRepaired);
            }
            Err(e) => self.picture.warn(Topic::Attach, format!("the program cannot be put back: {e}")),
        }
    }

    /// Puts the configuration's addresses on their interfaces, if the daemon is to manage them. Returns what failed.
    async fn place_addresses(&mut self, config: &Config) -> Vec<String> {
        let wanted = placements(config, self.core.leaving_addresses());
        let ours = self.net.own.clone();
        // Recorded before they are added: after a crash in between, an address too many is known as ours, none too few.
        self.remember(wanted.union(&ours).cloned().collect());
        match self.net.handle.manage_addresses(wanted, ours).await {
            Ok(managed) => self.take_managed(managed),
            Err(e) => {
                self.picture.warn(Topic::Addresses, format!("addresses are not as they should be: {e}"));
                vec![e.to_string()]
            }
        }
    }

    /// Takes in the state of the managed addresses. Returns what is wrong with them.
    pub(super) fn take_managed(&mut self, managed: Managed) -> Vec<String> {
        for Placement { address, interface } in &managed.foreign {
            tracing::debug!("{address} is on {interface} already, and stays the operator's");
        }
        self.remember(managed.ours);
        let problems: Vec<String> = managed.failed.iter().map(|(address, why)| format!("{address}: {why}")).collect();
        if problems.is_empty() {
            self.picture.clear(Topic::Addresses);
        } else {
            let text = format!("addresses are not as they should be: {}", problems.join("; "));
            self.picture.warn(Topic::Addresses, text);
        }
        problems
    }

    /// Removes every address that the daemon added.
    pub(super) async fn release_addresses(&mut self) {
        match self.net.handle.manage_addresses([], self.net.own.clone()).await {
            Ok(managed) => {
                for (address, why) in &managed.failed {
                    tracing::warn!("{address} stays: {why}");
                }
                self.remember(managed.ours);
            }
            Err(e) => tracing::warn!("the addresses stay: {e}"),
        }
    }
}

/// The interfaces that carry the program: without a service, none.
pub fn interfaces(config: &Config) -> &[String] {
    if config.services.is_empty() { &[] } else { &config.edge.interfaces }
}

/// Which address belongs where, with the source addresses that are `leaving`. Nothing if the operator places them.
pub(super) fn placements(config: &Config, leaving: &BTreeSet<IpAddr>) -> BTreeSet<Placement> {
    let edge = &config.edge;
    let (Some(front), Some(back)) = (edge.front(), edge.back()) else { return BTreeSet::new() };
    if !edge.manage_vips || config.services.is_empty() {
        return BTreeSet::new();
    }
    let vips = config.services.iter().map(|s| Placement::new(s.listen.vip, front));
    let pool4 = config.source_pool.ipv4.iter().copied().map(IpAddr::V4);
    let pool6 = config.source_pool.ipv6.iter().copied().map(IpAddr::V6);
    let pool = pool4.chain(pool6).chain(leaving.iter().copied()).map(|address| Placement::new(address, back));
    vips.chain(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    fn wanted(interfaces: &[&str], change: impl FnOnce(&mut Config)) -> BTreeSet<Placement> {
        let mut config = testing::config();
        config.edge.interfaces = interfaces.iter().map(|&i| i.into()).collect();
        change(&mut config);
        placements(&config, &BTreeSet::from(["10.0.0.251".parse().expect("it is an address")]))
    }

    fn placed(all: [(&str, &str); 3]) -> BTreeSet<Placement> {
        all.map(|(address, interface)| Placement::new(address.parse().expect("it is an address"), interface)).into()
    }

    #[test]
    fn vips_go_first_and_source_addresses_last() {
        let [vip, pool, leaving] = ["192.0.2.10", "10.0.0.250", "10.0.0.251"];
        assert_eq!(
            wanted(&["eth0", "eth1", "eth2"], |_| {}),
            placed([(vip, "eth0"), (pool, "eth2"), (leaving, "eth2")])
        );
        assert_eq!(wanted(&["eth0"], |_| {}), placed([(vip, "eth0"), (pool, "eth0"), (leaving, "eth0")]));
    }

    #[test]
    fn nothing_is_placed_without_leave_or_without_a_service() {
        assert!(wanted(&["eth0", "eth1"], |c| c.edge.manage_vips = false).is_empty());
        assert!(wanted(&["eth0", "eth1"], |c| c.services.clear()).is_empty());
    }
}
