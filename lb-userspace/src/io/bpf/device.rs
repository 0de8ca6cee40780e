//! An interface as the kernel reports it by rtnetlink: its name, index and XDP program. Asked anew each time, in the
//! calling thread's network namespace.

use std::io;

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::error::BpfError;
use super::types::Mode;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Its name.
    pub(super) name: String,
    /// Its index.
    pub(super) ifindex: u32,
    /// Its XDP program, if it has one.
    pub(super) xdp: Option<Xdp>,
}

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Xdp {
    /// Its mode; `None`: offloaded, or several at once.
    pub(super) mode: Option<Mode>,
    /// Its id.
    pub(super) program: u32,
}

/// The interface of this name; `None` if there is none.
pub(super) fn by_name(name: &str) -> Result<Option<Device>, BpfError> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Ok(None);
    }
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_owned()));
    query(request).map_err(|e| BpfError::kernel(format!("cannot ask for interface {name}"), &e))
}

/// The interface with this index; `None` if there is none.
pub(super) fn by_index(ifindex: u32) -> Result<Option<Device>, BpfError> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    query(request).map_err(|e| BpfError::kernel(format!("cannot ask for interface number {ifindex}"), &e))
}

fn query(request: LinkMessage) -> io::Result<Option<Device>> {
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetLink(request));
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    // Without the dump flag the kernel answers with exactly one message.
    let (answer, _) = socket.recv_from_full()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(Some(device(&link))),
        NetlinkPayload::Error(e) => {
            let e = e.to_io();
            if e.raw_os_error() == Some(libc::ENODEV) { Ok(None) } else { Err(e) }
        }
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device { name: String::new(), ifindex: link.header.index, xdp: None };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Xdp(parts) => device.xdp = xdp(parts),
            _ => {}
        }
    }
    device
}

fn xdp(parts: &[LinkXdp]) -> Option<Xdp> {
    let mut mode = None;
    let mut program = 0;
    for part in parts {
        match part {
            LinkXdp::Attached(XdpAttached::None) => return None,
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some(Mode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(Mode::Generic),
            LinkXdp::ProgId(id) => program = *id,
            // With several at once there is no single id; any of them will do to name.
            LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) if program == 0 => program = *id,
            _ => {}
        }
    }
    Some(Xdp { mode, program })
}
