//! Program and addresses on the interfaces: when they go there, and what happens when interfaces change.
//!
//! Cold, the program is attached last, when the first table is decided and written, and the addresses come after it: so
//! no packet meets an empty table, and none reaches the host's own stack to be answered with a reset. Where the program
//! was found attached, it never left.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::core::api::{Health, MemberCall, Time};
use crate::core::reason::ReasonKind;
use crate::io::bpf::types::Mode;
use crate::io::net::{self, NetEvent, NetHandle};
use crate::io::state::OwnAddress;

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
    pub own: BTreeSet<OwnAddress>,
}

impl Net {
    /// Watches the interfaces of `config`.
    pub fn watch(config: &Config, own: BTreeSet<OwnAddress>) -> Result<Self, ControlError> {
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

    /// Follows a change of the configuration's interfaces, mode and addresses.
    pub(super) async fn follow(&mut self, old: &Config, new: &Config) -> Result<(), ControlError> {
        if interfaces(old) != interfaces(new) {
            let own = std::mem::take(&mut self.net.own);
            match Net::watch(new, own.clone()) {
                Ok(net) => self.net = net,
                Err(e) => {
                    self.net.own = own;
                    return Err(e);
                }
            }
            self.net.handle.resolve(self.resolving.clone());
        }
        if !self.placing.placed {
            return Ok(());
        }
        if interfaces(old) != interfaces(new) || old.edge.mode != new.edge.mode {
            self.attach(new)?;
        }
        self.place_addresses(new).await;
        Ok(())
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
        self.picture.attached = attached;
        Ok(())
    }

    /// An attached interface is gone, and with it the program there.
    pub(super) fn link_gone(&mut self, name: &str) {
        self.picture.attached.retain(|a| a.interface != name);
        self.picture.warn(Topic::Attach, format!("interface {name} is gone; the program returns with it"));
    }

    /// Puts the program back where it should be, after an interface came back or someone took it off.
    pub(super) async fn place_again(&mut self) {
        if !self.placing.placed {
            return;
        }
        let config = self.running.config.clone();
        match self.attach(&config) {
            Ok(()) => self.place_addresses(&config).await,
            Err(e) => self.picture.warn(Topic::Attach, format!("the program cannot be put back: {e}")),
        }
    }

    /// Makes the first interface hold the configuration's addresses, if the daemon is to manage them.
    async fn place_addresses(&mut self, config: &Config) {
        let Some(interface) = interfaces(config).first().cloned() else {
            return self.release_addresses().await;
        };
        let mut wanted = addresses(config);
        if config.edge.manage_vips {
            wanted.extend(self.core.leaving_addresses());
        }
        let stale: BTreeSet<OwnAddress> = self.net.own.iter().filter(|a| a.interface != interface).cloned().collect();
        let mut problems = self.remove(stale).await;
        let ours: BTreeSet<IpAddr> = self.net.own.iter().map(|a| a.address).collect();
        // Recorded before they are added: after a crash in between, an address too many is known as ours, none too few.
        self.remember(wanted.iter().chain(&ours).map(|&address| own(address, &interface)).collect());
        match self.net.handle.manage_addresses(wanted, &interface, ours).await {
            Ok(managed) => {
                for (address, at) in &managed.foreign {
                    tracing::debug!("{address} is on {at} already, and stays the operator's");
                }
                problems.extend(managed.failed.into_iter().map(|(address, why)| format!("{address}: {why}")));
                self.remember(managed.ours.into_iter().map(|address| own(address, &interface)).collect());
            }
            Err(e) => problems.push(e.to_string()),
        }
        if problems.is_empty() {
            self.picture.clear(Topic::Addresses);
        } else {
            let problems = problems.join("; ");
            self.picture.warn(Topic::Addresses, format!("addresses are not as they should be: {problems}"));
        }
    }

    /// Removes every address that the daemon added.
    pub(super) async fn release_addresses(&mut self) {
        let all = self.net.own.clone();
        for problem in self.remove(all).await {
            tracing::warn!("an address stays: {problem}");
        }
    }

    /// Removes these; says what could not be.
    async fn remove(&mut self, addresses: BTreeSet<OwnAddress>) -> Vec<String> {
        let mut by_interface: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for a in &addresses {
            by_interface.entry(a.interface.clone()).or_default().insert(a.address);
        }
        let mut problems = Vec::new();
        let mut left = self.net.own.clone();
        for (interface, ours) in by_interface {
            match self.net.handle.manage_addresses([], &interface, ours.clone()).await {
                Ok(managed) => {
                    left.retain(|a| a.interface != interface || managed.ours.contains(&a.address));
                    problems.extend(managed.failed.into_iter().map(|(address, why)| format!("{address}: {why}")));
                }
                // The addresses went with their interface.
                Err(net::NetError::NoInterface(_)) => left.retain(|a| a.interface != interface),
                Err(e) => problems.push(e.to_string()),
            }
        }
        self.remember(left);
        problems
    }

    fn remember(&mut self, own: BTreeSet<OwnAddress>) {
        if own == self.net.own {
            return;
        }
        let list: Vec<OwnAddress> = own.iter().cloned().collect();
        if let Err(e) = block_in_place(|| self.journal.set_addresses(&list)) {
            self.picture.warn(Topic::State, e.message);
        }
        self.net.own = own;
    }
}

fn own(address: IpAddr, interface: &str) -> OwnAddress {
    OwnAddress { address, interface: interface.to_owned() }
}

/// The interfaces that carry the program: without a service, none.
pub fn interfaces(config: &Config) -> &[String] {
    if config.services.is_empty() { &[] } else { &config.edge.interfaces }
}

/// The addresses that the interface is to hold: VIPs and source addresses.
fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    if !config.edge.manage_vips {
        return BTreeSet::new();
    }
    let vips = config.services.iter().map(|s| s.listen.vip);
    let pool4 = config.source_pool.ipv4.iter().copied().map(IpAddr::V4);
    let pool6 = config.source_pool.ipv6.iter().copied().map(IpAddr::V6);
    vips.chain(pool4).chain(pool6).collect()
}
