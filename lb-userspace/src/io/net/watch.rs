//! The task that follows the kernel: reads links, routes and neighbours at start and whenever they may have changed, and
//! reports differences. Notifications only say *look again*; every answer is read from the kernel.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::addresses::{Addresses, Announcement};
use super::attached::Attached;
use super::claims::{Holders, Question};
use super::kernel::Kernel;
use super::links::Links;
use super::resolver::Resolver;
use super::{Command, Managed, NetError, NetEvent, Reply, announce};

/// Neighbours are looked at this often, and asked where it is time.
const TICK: Duration = Duration::from_secs(1);
/// Every so many ticks everything is read anew: notifications can be lost.
const TICKS_PER_FULL_CHECK: u32 = 5;
/// Notifications come in bursts; one look serves those of this span.
const SETTLE: Duration = Duration::from_millis(20);
/// One look, or one command, takes milliseconds; a minute with very many addresses. After so long an answer was lost.
const ANSWER_LOST: Duration = Duration::from_secs(60);
/// So many looks in a row that fail are taken for a lost connection.
const FAILURES: u32 = 5;

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
    attached: Attached,
    resolver: Resolver,
    addresses: Addresses,
    /// Their state as it was last told.
    told: Managed,
    announcements: JoinSet<()>,
    /// Whether other hosts have addresses that are missing here.
    questions: JoinSet<(Question, Holders)>,
    /// Who waits for the answers, and what was done for him meanwhile.
    waiting: Option<(Reply, Managed)>,
    stale: Stale,
    /// When to look, if something asked for it.
    look_at: Option<tokio::time::Instant>,
    failures: u32,
}

impl Watcher {
    pub(super) fn new(interfaces: Vec<String>) -> Self {
        Self {
            interfaces,
            outbox: VecDeque::new(),
            links: Links::default(),
            attached: Attached::default(),
            resolver: Resolver::default(),
            addresses: Addresses::default(),
            told: Managed::default(),
            announcements: JoinSet::new(),
            questions: JoinSet::new(),
            waiting: None,
            stale: Stale::ALL,
            look_at: Some(tokio::time::Instant::now()),
            failures: 0,
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
            // Whether the connection still works.
            let connected = tokio::select! {
                permit = events.reserve(), if !self.outbox.is_empty() => match (permit, self.outbox.pop_front()) {
                    (Ok(permit), Some(event)) => {
                        permit.send(event);
                        true
                    }
                    _ => return,
                },
                () = events.closed() => return,
                command = commands.recv() => match command {
                    Some(command) => timeout(ANSWER_LOST, self.obey(command, &kernel.handle)).await.is_ok(),
                    None => return,
                },
                Some(answer) = self.questions.join_next() => {
                    if let Ok((question, holders)) = answer {
                        self.addresses.answered(&question, &holders);
                    }
                    timeout(ANSWER_LOST, self.answered(&kernel.handle)).await.is_ok()
                }
                notification = kernel.notifications.next() => match notification {
                    Some(message) => {
                        self.note(message);
                        true
                    }
                    None => false,
                },
                () = sleep_until(look_at.unwrap_or_else(tokio::time::Instant::now)), if look_at.is_some() => {
                    self.look_at = None;
                    timeout(ANSWER_LOST, self.check(&kernel.handle)).await.is_ok() && self.failures < FAILURES
                }
                _ = ticks.tick() => {
                    count += 1;
                    while self.announcements.try_join_next().is_some() {}
                    self.look(if count.is_multiple_of(TICKS_PER_FULL_CHECK) { Stale::ALL } else { Stale::default() });
                    true
                }
            };
            if !connected {
                tracing::warn!("the netlink connection was lost; opening it anew");
                match Kernel::reopen(&commands).await {
                    Some(new) => kernel = new,
                    None => return,
                }
                self.failures = 0;
                self.look(Stale::ALL);
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
                self.resolver.follow(addresses);
                self.look(Stale { ways: true, ..Stale::default() });
            }
            Command::Manage { wanted, ours, reply } => {
                self.addresses.replace(wanted, ours);
                // An earlier asker learns what was done so far: his wishes were overtaken.
                self.tell_waiting(Ok(self.told.clone()));
                match self.ensure_now(handle).await {
                    Ok(done) if !self.questions.is_empty() => self.waiting = Some((reply, done)),
                    answer => self.tell(reply, answer),
                }
            }
        }
    }

    /// One question is answered: with the last, what waits for it is done.
    async fn answered(&mut self, handle: &Handle) {
        if !self.questions.is_empty() {
            return;
        }
        if self.waiting.is_none() {
            return self.look(Stale { addresses: true, ..Stale::default() });
        }
        let answer = self.ensure_now(handle).await;
        self.tell_waiting(answer);
    }

    fn tell_waiting(&mut self, answer: Result<Managed, NetError>) {
        let Some((reply, before)) = self.waiting.take() else { return };
        let all = answer.map(|mut managed| {
            managed.added.extend(before.added);
            managed.removed.extend(before.removed);
            managed
        });
        self.tell(reply, all);
    }

    fn tell(&mut self, reply: Reply, answer: Result<Managed, NetError>) {
        if let Ok(managed) = &answer {
            self.told = managed.clone();
        }
        // A caller that went away does not want the answer.
        let _ = reply.send(answer);
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
            // The notification itself says all.
            M::NewNeighbour(m) if self.resolver.note(&m, true) => self.look(Stale::default()),
            M::DelNeighbour(m) if self.resolver.note(&m, false) => self.look(Stale::default()),
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
            self.failures += 1;
            return;
        }
        self.failures = 0;
        // Who waits for an answer about the addresses gets one that nobody else had a part of.
        if (stale.links || stale.addresses) && !self.addresses.is_idle() && self.waiting.is_none() {
            let links = std::mem::take(&mut self.links);
            match self.ensure_addresses(handle, &links).await {
                Ok(managed) => self.report(managed),
                Err(error) => tracing::debug!(%error, "the managed addresses could not be looked after"),
            }
            self.links = links;
        }
        let changed = self.resolver.resolve(handle).await;
        self.outbox.extend(changed.into_iter().map(|(address, hop)| NetEvent::NextHop(address, hop)));
    }

    async fn read(&mut self, handle: &Handle, stale: Stale) -> Result<(), NetError> {
        if stale.links {
            self.links = Links::read(handle).await?;
            self.outbox.extend(self.attached.compare(&self.links, &self.interfaces));
        }
        if stale.ways || stale.links {
            self.resolver.read(handle, &self.links, &self.interfaces).await?;
        }
        Ok(())
    }

    /// With links of this moment, only for this look: the watcher compares its own table when it reads the links itself.
    async fn ensure_now(&mut self, handle: &Handle) -> Result<Managed, NetError> {
        let links = Links::read(handle).await?;
        self.ensure_addresses(handle, &links).await
    }

    async fn ensure_addresses(&mut self, handle: &Handle, links: &Links) -> Result<Managed, NetError> {
        let (managed, announcements, questions) = self.addresses.ensure(handle, links).await?;
        for Announcement { ifindex, mac, addresses } in announcements {
            self.announcements.spawn(announce::announce(ifindex, mac, addresses));
        }
        for question in questions {
            self.questions.spawn(question.ask());
        }
        Ok(managed)
    }

    /// Tells what was done, or failed, without anybody asking.
    fn report(&mut self, managed: Managed) {
        if !managed.added.is_empty() {
            tracing::info!(addresses = ?managed.added, "managed addresses were missing; added again");
        }
        // What is being asked for is neither ours nor refused, for the moment.
        if self.questions.is_empty() && (&managed.ours, &managed.failed) != (&self.told.ours, &self.told.failed) {
            self.told = managed.clone();
            self.outbox.push_back(NetEvent::Addresses(managed));
        }
    }
}
