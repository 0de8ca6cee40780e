//! The network as the kernel sees it: links, next hops, and the addresses that the balancer answers for.
//!
//! Owns the netlink connection of the current network namespace. Decides nothing about backends: it reports what is
//! reachable, and how, as [`NetEvent`]s. XDP traffic confirms no neighbour to the kernel, so this module keeps them fresh
//! itself.

mod addresses;
mod announce;
mod attached;
mod claims;
mod ethtool;
mod hops;
pub mod inspect;
mod kernel;
mod links;
mod neighbours;
mod resolver;
mod routes;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::abi::{Hop, MAX_LINKS};
use tokio::sync::{mpsc, oneshot};

pub use addresses::{Managed, Placement};

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// MACs of the attached interfaces, in the order given to [`spawn`]; 0 where an interface is missing. Sent at start
    /// and whenever one changes.
    Links([u64; MAX_LINKS]),
    /// An attached interface no longer exists; with it went the program on it.
    LinkGone(String),
    /// An interface of that name exists again, as another device: the program must be attached anew.
    LinkBack(String),
    /// The managed addresses are in another state than was last told, by an answer or by this event.
    Addresses(Managed),
    /// The next hop towards an address, or why there is none. Sent when first known, and on each change.
    NextHop(IpAddr, Result<Hop, String>),
}

/// Why a request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No interface has this name.
    #[error("there is no interface {0:?} in this network namespace; `ip link` lists those there are")]
    NoInterface(String),
    /// More interfaces than the program has room for.
    #[error("{0} interfaces given, at most {MAX_LINKS} are possible")]
    TooManyInterfaces(usize),
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] std::io::Error),
    /// The kernel refused.
    #[error("cannot {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        why: String,
    },
    /// The watcher ended; its events' receiver is gone.
    #[error("the network watcher has ended")]
    Ended,
}

impl NetError {
    fn refused(what: impl Into<String>, error: &rtnetlink::Error) -> Self {
        let why = match error {
            rtnetlink::Error::NetlinkError(e) => e.to_io().to_string(),
            other => other.to_string(),
        };
        Self::Refused { what: what.into(), why }
    }
}

/// The watcher's handle. Everything that the watcher runs ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct NetHandle {
    // Unbounded, so that a caller who also reads the events can never wait for the watcher while it waits for him.
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Resolve(Vec<IpAddr>),
    Manage { wanted: BTreeSet<Placement>, ours: BTreeSet<Placement>, reply: Reply },
}

type Reply = oneshot::Sender<Result<Managed, NetError>>;

/// Follows links, routes and neighbours of the current network namespace. `interfaces` are those that the program is
/// attached to: next hops must leave by one of them, or by a VLAN on one. Call it inside a tokio runtime.
pub fn spawn(interfaces: Vec<String>, events: mpsc::Sender<NetEvent>) -> Result<NetHandle, NetError> {
    if interfaces.len() > MAX_LINKS {
        return Err(NetError::TooManyInterfaces(interfaces.len()));
    }
    if let Some(missing) = interfaces.iter().find(|i| nix::net::if_::if_nametoindex(i.as_str()).is_err()) {
        return Err(NetError::NoInterface(missing.clone()));
    }
    // The first connection is opened here: where there can be none, the caller learns it at once.
    let kernel = kernel::Kernel::open()?;
    let (commands, receiver) = mpsc::unbounded_channel();
    tokio::spawn(watch::Watcher::new(interfaces).run(kernel, receiver, events));
    Ok(NetHandle { commands })
}

impl NetHandle {
    /// Whether the watcher has ended, which only an error of its own can make it do while this handle lives.
    pub fn is_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Resolves these addresses and keeps them fresh; replaces the earlier set. The answers are events. An address that
    /// was in the earlier set is reported again only when its answer changes.
    pub fn resolve(&self, addresses: Vec<IpAddr>) {
        // A watcher that ended has no reader either.
        let _ = self.commands.send(Command::Resolve(addresses));
    }

    /// Puts the wanted addresses where they belong, keeps them there through every change of the interfaces, and
    /// announces those it adds. `ours` are addresses that an earlier run added: of them, and only of them, those no longer
    /// wanted, or wanted elsewhere now, are removed. Replaces the earlier set; an empty one removes all that are ours.
    /// IPv4 addresses that are missing are first asked for, for less than a second: what another host has is not added.
    pub async fn manage_addresses(
        &self,
        wanted: impl IntoIterator<Item = Placement>,
        ours: impl IntoIterator<Item = Placement>,
    ) -> Result<Managed, NetError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Manage { wanted: wanted.into_iter().collect(), ours: ours.into_iter().collect(), reply };
        self.commands.send(command).map_err(|_| NetError::Ended)?;
        answer.await.map_err(|_| NetError::Ended)?
    }
}
