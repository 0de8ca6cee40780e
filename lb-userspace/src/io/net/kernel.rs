//! The netlink connections: one for requests, one on which notifications of what changed come in. Two, because a burst of
//! notifications that overflows a socket would take the answer to a request with it, and the asker would wait for ever.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Command, NetError};

/// Receive buffer for notifications. When it overflows some are lost, and the stream says so by an overrun message.
const BUFFER_BYTES: usize = 1 << 20;
/// Between two tries to open a connection.
const RETRY: Duration = Duration::from_secs(1);

/// Both connections with their tasks.
pub(super) struct Kernel {
    /// For requests.
    pub(super) handle: Handle,
    /// Ends when a connection is lost for good.
    pub(super) notifications: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    _connections: JoinSet<()>,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, NetError> {
        use MulticastGroup as G;
        let groups =
            [G::Link, G::Neigh, G::Ipv4Ifaddr, G::Ipv6Ifaddr, G::Ipv4Route, G::Ipv6Route, G::Ipv4Rule, G::Ipv6Rule];
        let (requests, handle, _) = rtnetlink::new_connection().map_err(NetError::Open)?;
        let (mut following, _, notifications) = rtnetlink::new_multicast_connection(&groups).map_err(NetError::Open)?;
        let socket = following.socket_mut().socket_mut();
        socket.set_rx_buf_sz(BUFFER_BYTES).map_err(NetError::Open)?;
        let mut connections = JoinSet::new();
        connections.spawn(requests);
        connections.spawn(following);
        let notifications = notifications.map(|(message, _)| message).boxed();
        Ok(Self { handle, notifications, _connections: connections })
    }

    /// Tries until there is a connection, or nobody wants one.
    pub(super) async fn reopen(commands: &mpsc::UnboundedReceiver<Command>) -> Option<Self> {
        while !commands.is_closed() {
            match Self::open() {
                Ok(kernel) => return Some(kernel),
                Err(error) => tracing::warn!(%error, "trying again"),
            }
            sleep(RETRY).await;
        }
        None
    }
}
