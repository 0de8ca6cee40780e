//! Which way the kernel would send a packet: one question (RTM_GETROUTE), one answer in words we can act on.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::{Handle, packet_core::ErrorMessage};

/// The way towards an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Whose link-layer address is wanted: the gateway, or the destination itself. A gateway may be of the other family.
    pub(super) neighbour: IpAddr,
    /// The interface it leaves by.
    pub(super) ifindex: u32,
}

/// Asks the kernel. `Err` says why there is no way; it names the address.
pub(super) async fn lookup(handle: &Handle, address: IpAddr) -> Result<Route, String> {
    let mut question = RouteMessage::default();
    (question.header.address_family, question.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    question.attributes.push(RouteAttribute::Destination(address.into()));
    match handle.route().get(question).execute().try_next().await {
        Ok(Some(answer)) => parse(&answer, address),
        Ok(None) => Err(format!("the kernel gave no answer about the route to {address}")),
        Err(rtnetlink::Error::NetlinkError(error)) => Err(refusal(&error, address)),
        Err(error) => Err(format!("cannot ask for the route to {address}: {error}")),
    }
}

/// A route of type blackhole and its like is answered with an error, not with a route.
fn refusal(error: &ErrorMessage, address: IpAddr) -> String {
    match -error.raw_code() {
        libc::ENETUNREACH => format!("no route to {address}"),
        libc::EHOSTUNREACH => format!("the route to {address} is of type unreachable"),
        libc::EACCES => format!("the route to {address} is of type prohibit"),
        libc::EINVAL => format!("the route to {address} is of type blackhole"),
        _ => format!("no route to {address}: {}", error.to_io()),
    }
}

fn parse(answer: &RouteMessage, address: IpAddr) -> Result<Route, String> {
    match answer.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Err(format!("{address} is an address of this host")),
        RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
            return Err(format!("{address} is not a unicast address here"));
        }
        kind => return Err(format!("the route to {address} is of type {kind:?}").to_lowercase()),
    }
    let (mut neighbour, mut ifindex) = (address, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(g)) => neighbour = IpAddr::V4(*g),
            RouteAttribute::Gateway(RouteAddress::Inet6(g)) => neighbour = IpAddr::V6(*g),
            RouteAttribute::Via(RouteVia::Inet(g)) => neighbour = IpAddr::V4(*g),
            RouteAttribute::Via(RouteVia::Inet6(g)) => neighbour = IpAddr::V6(*g),
            RouteAttribute::Encap(_) => return Err(format!("the route to {address} encapsulates; use a plain one")),
            _ => {}
        }
    }
    let ifindex = ifindex.ok_or_else(|| format!("the route to {address} names no interface"))?;
    Ok(Route { neighbour, ifindex })
}
