//! One packet through the program: made, tried on a copy of the maps, and told step by step with the names that people know.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use jiff::Timestamp;
use lb_common::abi::{Hop, NO_MEMBER};
use lb_common::wire::l4;

use super::error::system;
use crate::config::model::Protocol;
use crate::control::daemon::{ControlError, ErrorCode, TraceQuery, View};
use crate::control::schema::{PacketOut, Trace, TraceStep};
use crate::core::api::{MemberCall, ServiceCall};
use crate::io::bpf::types::{Attached, FlowRecord};
use crate::io::bpf::{DataPlane, Question, Traced, Tuple};

/// Who the frame comes from: an address for local use, as of a router that nobody has.
const FROM_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];
/// Like a packet that came some way.
const TTL: u8 = 60;
/// Payload of a datagram.
const DATAGRAM: &[u8] = b"rollcall trace";
/// XDP's actions by number.
const ACTIONS: [&str; 5] = ["aborted", "drop", "pass", "tx", "redirect"];

/// Tries the packet. Blocks for some tenths of a second: the copy's programs are verified anew.
pub fn run(plane: &DataPlane, view: &View, query: &TraceQuery) -> Result<Trace, ControlError> {
    let attached = ingress(view, query.interface.as_deref())?;
    let question = Question {
        frame: frame(query)?,
        tuple: Tuple::new(query.from, query.to, query.protocol),
        ifindex: attached.ifindex,
    };
    let traced = plane.trace(&question).map_err(|e| system(e.to_string()))?;
    Ok(tell(view, query, attached, &traced))
}

fn ingress<'a>(view: &'a View, name: Option<&str>) -> Result<&'a Attached, ControlError> {
    let names = || view.attached.iter().map(|a| a.interface.as_str());
    match name {
        Some(name) => view
            .attached
            .iter()
            .find(|a| a.interface == name)
            .ok_or_else(|| ControlError::not_found("interface", name, names())),
        None => view.attached.first().ok_or_else(|| {
            ControlError::new(ErrorCode::Conflict, "the program is on no interface, so that no packet meets it")
                .with_hint("`rollcall status` and `rollcall doctor` say why")
        }),
    }
}

/// The frame. Its destination MAC is set where it is tried.
fn frame(query: &TraceQuery) -> Result<Vec<u8>, ControlError> {
    let link = PacketBuilder::ethernet2(FROM_MAC, [0; 6]);
    let net = match (query.from.ip(), query.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), TTL),
        _ => return Err(ControlError::new(ErrorCode::Usage, "the addresses are of two families")),
    };
    let (from, to) = (query.from.port(), query.to.port());
    let mut frame = Vec::new();
    let built = match query.protocol {
        Protocol::Udp => net.udp(from, to).write(&mut frame, DATAGRAM),
        Protocol::Tcp => {
            let mut tcp = net.tcp(from, to, 1, u16::MAX);
            let flags = query.flags;
            if flags & l4::SYN != 0 {
                tcp = tcp.syn();
            }
            if flags & l4::ACK != 0 {
                tcp = tcp.ack(1);
            }
            if flags & l4::FIN != 0 {
                tcp = tcp.fin();
            }
            if flags & l4::RST != 0 {
                tcp = tcp.rst();
            }
            tcp.write(&mut frame, &[])
        }
    };
    built.map_err(|e| system(format!("such a packet cannot be made: {e}")))?;
    Ok(frame)
}

/// The answer in words.
fn tell(view: &View, query: &TraceQuery, attached: &Attached, traced: &Traced) -> Trace {
    let flow = traced.after.as_ref().or(traced.before.as_ref());
    let services = &view.roll_call.services;
    let service = services.iter().find(|s| Some(s.id) == traced.service.or(flow.map(|f| f.service)));
    let member_of = |id: u32| service.and_then(|s| s.members.iter().find(|m| m.id == Some(id)));
    let member = flow.and_then(|f| member_of(f.member));
    let mut steps = Vec::new();
    let mut step = |step: &str, found: String| steps.push(TraceStep { step: step.to_owned(), found });
    step("destination", destination(view, query, service, traced));
    if service.is_some() || flow.is_some() {
        step("flow", traced.before.as_ref().map_or("none yet".to_owned(), |f| known(f, query)));
    }
    if traced.before.is_none()
        && let Some(service) = service
    {
        step("table", table(service, traced, member, &member_of));
    }
    if let Some(flow) = flow {
        let name = member.map_or("a backend that left its service", |m| m.backend.as_str());
        step("backend", format!("{name}, {}: {}", flow.backend, member.map_or(String::new(), standing)));
        if let Some(member) = member {
            step("next hop", member.hop.as_ref().map_or("none known".to_owned(), next_hop));
        }
    }
    let verdict = ACTIONS.get(traced.action as usize).copied().unwrap_or("aborted");
    step("verdict", in_words(traced, verdict, flow));
    let sent = matches!(verdict, "tx" | "redirect");
    Trace {
        time: Timestamp::now(),
        protocol: query.protocol,
        from_address: query.from,
        to_address: query.to,
        interface: attached.interface.clone(),
        verdict: verdict.to_owned(),
        reason: traced.reason.map(|r| r.name().to_owned()),
        service: service.map(|s| s.name.to_string()),
        backend: member.map(|m| m.backend.to_string()),
        steps,
        packet_out: if sent { packet_out(&traced.frame) } else { None },
    }
}

fn destination(view: &View, query: &TraceQuery, service: Option<&ServiceCall>, traced: &Traced) -> String {
    let protocol = if query.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    if traced.service.is_some() {
        return match service {
            Some(service) => format!("service {}", service.name),
            None => "a service that is no longer configured".to_owned(),
        };
    }
    let pool = &view.config.source_pool;
    let ip = query.to.ip();
    let is_source = match ip {
        IpAddr::V4(ip) => pool.ipv4.contains(&ip),
        IpAddr::V6(ip) => pool.ipv6.contains(&ip),
    };
    let there: Vec<String> = (view.roll_call.services.iter().filter(|s| s.listen.vip == ip))
        .map(|s| {
            let protocol = if s.listen.protocol == Protocol::Tcp { "tcp" } else { "udp" };
            format!("{} on {}/{protocol}", s.name, s.listen.port)
        })
        .collect();
    match (is_source, there.is_empty()) {
        (true, _) => "an address of the source pool: answers of backends come here".to_owned(),
        (false, false) => {
            format!("a VIP, but no service on {}/{protocol}; there is {}", query.to.port(), there.join(", "))
        }
        (false, true) => "none of ours".to_owned(),
    }
}

fn known(flow: &FlowRecord, query: &TraceQuery) -> String {
    let side = if flow.client == query.from { "of the client" } else { "of the backend" };
    format!("known, {}, opened {} s ago; this is a packet {side}", flow.phase.name(), flow.age_ms / 1000)
}

fn table<'a>(
    service: &ServiceCall,
    traced: &Traced,
    member: Option<&MemberCall>,
    member_of: &impl Fn(u32) -> Option<&'a MemberCall>,
) -> String {
    match traced.slot {
        Some(slot) if slot.member == NO_MEMBER => format!("slot {} of {} is empty", slot.index, slot.size),
        Some(slot) => {
            let name = member_of(slot.member).map_or("a backend that left", |m| m.backend.as_str());
            format!("the flow's hash leads to slot {} of {}: {name}", slot.index, slot.size)
        }
        None => match member {
            Some(member) => format!("{} has its turn", member.backend),
            None if service.members.iter().all(|m| m.effective == 0) => "empty: no backend takes new flows".to_owned(),
            None => "not asked".to_owned(),
        },
    }
}

fn standing(member: &MemberCall) -> String {
    let reasons: Vec<&str> = member.reasons.iter().map(|r| r.kind.name()).collect();
    let rotation = if member.in_rotation { "in rotation" } else { "out of rotation" };
    if reasons.is_empty() { rotation.to_owned() } else { format!("{rotation}: {}", reasons.join(", ")) }
}

fn next_hop(hop: &Hop) -> String {
    if hop.is_resolved() {
        format!("{} through interface {}", mac(hop.dst_mac()), hop.ifindex())
    } else {
        "not resolved: the neighbour does not answer".to_owned()
    }
}

fn in_words(traced: &Traced, verdict: &str, flow: Option<&FlowRecord>) -> String {
    match (traced.reason, flow) {
        (Some(reason), _) => format!("{}. {}", reason.name(), reason.meaning().trim()),
        (None, Some(flow)) if verdict == "tx" || verdict == "redirect" => {
            let opened = if traced.before.is_none() {
                format!("; opened as a new flow from {} (the port may be another by then)", flow.source)
            } else {
                String::new()
            };
            let way = if verdict == "tx" { "out of the interface it came in on" } else { "out of another interface" };
            format!("forwarded, {way}{opened}")
        }
        (None, _) => verdict.to_owned(),
    }
}

fn packet_out(frame: &[u8]) -> Option<PacketOut> {
    let headers = PacketHeaders::from_ethernet_slice(frame).ok()?;
    let (from, to, ttl) = match headers.net? {
        NetHeaders::Ipv4(ip, _) => (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.time_to_live),
        NetHeaders::Ipv6(ip, _) => (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.hop_limit),
        NetHeaders::Arp(_) => return None,
    };
    let (source, destination) = match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(TransportHeader::Udp(udp)) => (udp.source_port, udp.destination_port),
        // A tunnel's or an error's: addresses alone.
        _ => (0, 0),
    };
    let mut to_mac = [0; 6];
    to_mac.copy_from_slice(frame.get(..6)?);
    Some(PacketOut {
        destination_mac: mac(to_mac),
        from_address: SocketAddr::new(from, source),
        to_address: SocketAddr::new(to, destination),
        ttl,
        length_bytes: frame.len(),
    })
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|o| format!("{o:02x}")).join(":")
}
