//! The task that follows the kernel: reads links, routes and neighbours at start and whenever they may have changed, and
//! reports differences. Notifications only say *look again*; every answer is read from the kernel.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lb_common::abi::{Hop, MAX_LINKS};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::addresses::{Addresses, Announcement};
use super::hops::{self, Way};
use super::kernel::Kernel;
use super::links::Links;
use super::neighbours::{self, Entry, Key, Need, Tracker};
use super::{Command, Managed, NetError, NetEvent, announce, routes};

/// Neighbours are looked at this often, and asked where it is time.
const TICK: Duration = Duration::from_secs(1);
/// Every so many ticks everything is read anew: notifications can be lost.
const TICKS_PER_FULL_CHECK: u32 = 5;
/// Notifications come in bursts; one look serves those of this span.
const SETTLE: Duration = Duration::from_millis(20);

/// An address whose next hop is wanted.
#[derive(Default)]
struct Target {
    way: Option<Result<Way, String>>,
    told: Option<Result<Hop, String>>,
}

/// What must be read again.
#[derive(Clone, Copy, Default)]
struct Stale {
    links: bool,
    ways: bool,
    addresses: bool,
}

impl Stale {
    const ALL: Self = Self { links: true, ways: true, addresses: true };
}

pub(super) struct Watcher {
    interfaces: Vec<String>,
    outbox: VecDeque<NetEvent>,
    links: Links,
    /// Index of each attached interface when last seen; `None`: gone.
    present: Option<Vec<Option<u32>>>,
    macs: Option<[u64; MAX_LINKS]>,
    targets: BTreeMap<IpAddr, Target>,
    trackers: HashMap<Key, Tracker>,
    entries: HashMap<Key, Entry>,
    addresses: Addresses,
    /// What could not be done about them, as last logged.
    failed: Vec<(IpAddr, String)>,
    announcements: JoinSet<()>,
    stale: Stale,
    /// When to look, if something asked for it.
    look_at: Option<tokio::time::Instant>,
}

impl Watcher {
    pub(super) fn new(interfaces: Vec<String>) -> Self {
        Self {
            interfaces,
            outbox: VecDeque::new(),
            links: Links::default(),
            present: None,
            macs: None,
            targets: BTreeMap::new(),
            trackers: HashMap::new(),
            entries: HashMap::new(),
            addresses: Addresses::default(),
            failed: Vec::new(),
            announcements: JoinSet::new(),
            stale: Stale::ALL,
            look_at: Some(tokio::time::Instant::now()),
        }
    }

    /// Runs until every handle, or the events' receiver, is dropped.
    pub(super) async fn run(
        mut self,
        mut kernel: Kernel,
        mut commands: mpsc::UnboundedReceiver<Command>,
        events: mpsc::Sender<NetEvent>,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0u32;
        loop {
            let look_at = self.look_at;
            tokio::select! {
                permit = events.reserve(), if !self.outbox.is_empty() => match (permit, self.outbox.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    _ => return,
                },
                () = events.closed() => return,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command, &kernel.handle).await,
                    None => return,
                },
                notification = kernel.notifications.next() => match notification {
                    Some(message) => self.note(message),
                    None => {
                        tracing::warn!("the netlink connection was lost; opening it anew");
                        match Kernel::reopen(&commands).await {
                            Some(new) => kernel = new,
                            None => return,
                        }
                        self.look(Stale::ALL);
                    }
                },
                () = sleep_until(look_at.unwrap_or_else(tokio::time::Instant::now)), if look_at.is_some() => {
                    self.look_at = None;
                    self.check(&kernel.handle).await;
                }
                _ = ticks.tick() => {
                    count += 1;
                    while self.announcements.try_join_next().is_some() {}
                    self.look(if count.is_multiple_of(TICKS_PER_FULL_CHECK) { Stale::ALL } else { Stale::default() });
                }
            }
        }
    }

    /// Asks for a look soon.
    fn look(&mut self, stale: Stale) {
        self.stale.links |= stale.links;
        self.stale.ways |= stale.ways;
        self.stale.addresses |= stale.addresses;
        self.look_at.get_or_insert_with(|| tokio::time::Instant::now() + SETTLE);
    }

    async fn obey(&mut self, command: Command, handle: &Handle) {
        match command {
            Command::Resolve(addresses) => {
                let mut old = std::mem::take(&mut self.targets);
                self.targets = addresses.into_iter().map(|a| (a, old.remove(&a).unwrap_or_default())).collect();
                self.look(Stale { ways: true, ..Stale::default() });
            }
            Command::Manage { wanted, ours, reply } => {
                self.addresses.replace(wanted, ours);
                let answer = match Links::read(handle).await {
                    // Only for this look: the watcher compares its own table when it reads the links itself.
                    Ok(links) => self.ensure_addresses(handle, &links).await,
                    Err(error) => Err(error),
                };
                // A caller that went away does not want the answer.
                let _ = reply.send(answer);
            }
        }
    }

    /// Takes a notification: what may have changed is read again.
    fn note(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        use RouteNetlinkMessage as M;
        let message = match message.payload {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => {
                tracing::debug!("notifications were lost; reading everything anew");
                return self.look(Stale::ALL);
            }
            _ => return,
        };
        match message {
            M::NewLink(_) | M::DelLink(_) => self.look(Stale::ALL),
            M::NewAddress(_) | M::DelAddress(_) => self.look(Stale { ways: true, addresses: true, links: false }),
            M::NewRoute(_) | M::DelRoute(_) | M::NewRule(_) | M::DelRule(_) => {
                self.look(Stale { ways: true, ..Stale::default() });
            }
            // Neighbours change all the time: only those in use matter, and the notification itself says all.
            M::NewNeighbour(m) => {
                if let Some((key, entry)) = neighbours::parse(&m)
                    && self.trackers.contains_key(&key)
                {
                    self.entries.insert(key, entry);
                    self.look(Stale::default());
                }
            }
            M::DelNeighbour(m) => {
                if let Some((key, _)) = neighbours::parse(&m)
                    && self.trackers.contains_key(&key)
                {
                    self.entries.remove(&key);
                    self.look(Stale::default());
                }
            }
            _ => {}
        }
    }

    /// Reads what is stale, asks what must be asked, and queues what changed.
    async fn check(&mut self, handle: &Handle) {
        let stale = std::mem::take(&mut self.stale);
        if let Err(error) = self.read(handle, stale).await {
            tracing::warn!(%error, "could not read the network's state; trying again");
            // The next tick looks, at everything that was not read.
            self.stale = stale;
            return;
        }
        if (stale.links || stale.addresses) && !self.addresses.is_idle() {
            let links = std::mem::take(&mut self.links);
            match self.ensure_addresses(handle, &links).await {
                Ok(managed) => self.report(managed),
                Err(error) => tracing::debug!(%error, "the managed addresses could not be looked after"),
            }
            self.links = links;
        }
        self.resolve(handle).await;
    }

    async fn read(&mut self, handle: &Handle, stale: Stale) -> Result<(), NetError> {
        if stale.links {
            self.links = Links::read(handle).await?;
            self.compare_links();
        }
        if stale.ways || stale.links {
            for (address, target) in &mut self.targets {
                let route = routes::lookup(handle, *address).await;
                let way = route.and_then(|route| hops::way(*address, route, &self.links, &self.interfaces));
                target.way = Some(way);
            }
            let ways = self.targets.values().filter_map(|t| t.way.as_ref()?.as_ref().ok());
            let mut old = std::mem::take(&mut self.trackers);
            for way in ways {
                let tracker = old.remove(&way.neighbour);
                self.trackers.entry(way.neighbour).or_insert_with(|| tracker.unwrap_or(Tracker::new()));
            }
            self.entries = neighbours::read(handle).await?;
            self.entries.retain(|key, _| self.trackers.contains_key(key));
        }
        Ok(())
    }

    fn compare_links(&mut self) {
        let now: Vec<_> = self.interfaces.iter().map(|name| self.links.by_name(name).map(|l| l.index)).collect();
        let before = self.present.replace(now.clone());
        for (i, name) in self.interfaces.iter().enumerate() {
            // All existed when the watcher was spawned.
            let was = before.as_ref().map_or(now[i].or(Some(0)), |b| b[i]);
            if was != now[i] {
                if was.is_some() {
                    self.outbox.push_back(NetEvent::LinkGone(name.clone()));
                }
                if now[i].is_some() {
                    self.outbox.push_back(NetEvent::LinkBack(name.clone()));
                }
            }
        }
        let macs = self.links.macs(&self.interfaces);
        if self.macs.replace(macs) != Some(macs) {
            self.outbox.push_back(NetEvent::Links(macs));
        }
    }

    async fn ensure_addresses(&mut self, handle: &Handle, links: &Links) -> Result<Managed, NetError> {
        let (managed, announcements) = self.addresses.ensure(handle, links).await?;
        for Announcement { ifindex, mac, addresses } in announcements {
            self.announcements.spawn(announce::announce(ifindex, mac, addresses));
        }
        Ok(managed)
    }

    /// Looks at each neighbour in use, asks where needed, and queues the answers that changed.
    async fn resolve(&mut self, handle: &Handle) {
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
                self.outbox.push_back(NetEvent::NextHop(*address, answer));
            }
        }
    }

    /// Logs what was done without anybody asking; a failure once for as long as it lasts.
    fn report(&mut self, managed: Managed) {
        if !managed.added.is_empty() {
            tracing::info!(addresses = ?managed.added, "managed addresses were missing; added again");
        }
        if managed.failed != self.failed {
            for (address, why) in &managed.failed {
                tracing::warn!(%address, %why, "a managed address is not as it should be");
            }
        }
        self.failed = managed.failed;
    }
}
