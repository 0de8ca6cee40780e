//! Packets from parts, with every checksum computed in full; and back into parts, with every checksum verified.

use std::net::{IpAddr, SocketAddr};

use lb_common::checksum::{fold, sum};
use lb_common::wire::icmp;
use lb_common::wire::l4::{TCP, UDP};

/// MAC of the edge's interface in fixtures.
pub const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xed];
/// MAC of the client (or its router) in fixtures.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];

/// The L4 part of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    /// TCP without options.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Flags.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// `false` sends none, which IPv4 alone allows.
        checksum: bool,
    },
    /// ICMP or ICMPv6, by the addresses' family. It has no ports: those of the addresses are 0 when read.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes that depend on the type.
        rest: u32,
    },
}

/// A packet in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Craft {
    /// Destination and source MAC.
    pub macs: ([u8; 6], [u8; 6]),
    /// VLAN tags as (TPID, TCI), outer first.
    pub tags: Vec<(u16, u16)>,
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: type and bytes (the next-header byte is filled in).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// L4.
    pub l4: L4,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Craft {
    /// A TCP segment from client to edge.
    pub fn tcp(src: &str, dst: &str, flags: u8, seq: u32, ack: u32) -> Self {
        Self::new(src, dst, L4::Tcp { seq, ack, flags })
    }

    /// A UDP datagram from client to edge.
    pub fn udp(src: &str, dst: &str, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..Self::new(src, dst, L4::Udp { checksum: true }) }
    }

    /// An ICMP message from client to edge; ports are not sent.
    pub fn icmp(src: &str, dst: &str, kind: u8, code: u8, rest: u32, payload: &[u8]) -> Self {
        let mut craft = Self::new(src, dst, L4::Icmp { kind, code, rest });
        craft.src.set_port(0);
        craft.dst.set_port(0);
        Self { payload: payload.to_vec(), ..craft }
    }

    fn new(src: &str, dst: &str, l4: L4) -> Self {
        Self {
            macs: (EDGE_MAC, CLIENT_MAC),
            tags: Vec::new(),
            src: src.parse().expect("an address in a test"),
            dst: dst.parse().expect("an address in a test"),
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            l4,
            payload: Vec::new(),
        }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.macs.0);
        frame.extend(self.macs.1);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let l4 = self.l4_bytes();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend(0x0800u16.to_be_bytes());
                let header = 20 + self.options.len();
                let mut ip = vec![0x40 | (header / 4) as u8, 0];
                ip.extend(((header + l4.len()) as u16).to_be_bytes());
                ip.extend([0x12, 0x34, 0x40, 0, self.ttl, self.proto(), 0, 0]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                ip.extend(&self.options);
                let check = !fold(sum(&ip));
                ip[10..12].copy_from_slice(&check.to_ne_bytes());
                frame.extend(ip);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend(0x86ddu16.to_be_bytes());
                let mut chain = Vec::new();
                for (i, (_, bytes)) in self.extensions.iter().enumerate() {
                    let next = self.extensions.get(i + 1).map_or(self.proto(), |(n, _)| *n);
                    chain.push(next);
                    chain.extend(&bytes[1..]);
                }
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(((chain.len() + l4.len()) as u16).to_be_bytes());
                frame.extend([self.extensions.first().map_or(self.proto(), |(n, _)| *n), self.ttl]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
                frame.extend(chain);
            }
            _ => panic!("one family in one packet"),
        }
        frame.extend(l4);
        frame
    }

    fn proto(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => TCP,
            L4::Udp { .. } => UDP,
            L4::Icmp { .. } if self.src.is_ipv4() => icmp::V4,
            L4::Icmp { .. } => icmp::V6,
        }
    }

    fn l4_bytes(&self) -> Vec<u8> {
        let mut b = Vec::new();
        if !matches!(self.l4, L4::Icmp { .. }) {
            b.extend(self.src.port().to_be_bytes());
            b.extend(self.dst.port().to_be_bytes());
        }
        let at = match self.l4 {
            L4::Icmp { kind, code, rest } => {
                b.extend([kind, code, 0, 0]);
                b.extend(rest.to_be_bytes());
                2
            }
            L4::Tcp { seq, ack, flags } => {
                b.extend(seq.to_be_bytes());
                b.extend(ack.to_be_bytes());
                b.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
                16
            }
            L4::Udp { .. } => {
                b.extend(((8 + self.payload.len()) as u16).to_be_bytes());
                b.extend([0, 0]);
                6
            }
        };
        b.extend(&self.payload);
        if self.l4 != (L4::Udp { checksum: false }) {
            let mut check = !fold(self.pseudo_sum(b.len()) + sum(&b));
            if check == 0 && self.proto() == UDP {
                check = 0xffff;
            }
            b[at..at + 2].copy_from_slice(&check.to_ne_bytes());
        }
        b
    }

    /// Of ICMP over IPv4: nothing, it covers no pseudo-header (RFC 792).
    fn pseudo_sum(&self, len: usize) -> u64 {
        if self.proto() == icmp::V4 {
            return 0;
        }
        let addresses = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => sum(&s.octets()) + sum(&d.octets()),
            (IpAddr::V6(s), IpAddr::V6(d)) => sum(&s.octets()) + sum(&d.octets()),
            _ => panic!("one family in one packet"),
        };
        addresses + u64::from((len as u16).to_be()) + u64::from(u16::from(self.proto()).to_be())
    }

    /// Reads a frame back into parts. Panics on anything that is not exactly as `bytes` would write it, checksums
    /// included: whatever the program sends must be a packet that a receiver accepts.
    pub fn read(frame: &[u8]) -> Self {
        let mut at = 12;
        let mut tags = Vec::new();
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        while matches!(word(at), 0x8100 | 0x88a8) {
            tags.push((word(at), word(at + 2)));
            at += 4;
        }
        let l3 = at + 2;
        let (src, dst, ttl, options, extensions, proto, l4_at, end): (IpAddr, IpAddr, _, _, _, _, _, _) = match word(at)
        {
            0x0800 => {
                let header = usize::from(frame[l3] & 0xf) * 4;
                assert_eq!(fold(sum(&frame[l3..l3 + header])), 0xffff, "IPv4 header checksum");
                let addr = |at: usize| -> IpAddr { <[u8; 4]>::try_from(&frame[at..at + 4]).expect("4 bytes").into() };
                let options = frame[l3 + 20..l3 + header].to_vec();
                let end = l3 + usize::from(word(l3 + 2));
                (addr(l3 + 12), addr(l3 + 16), frame[l3 + 8], options, Vec::new(), frame[l3 + 9], l3 + header, end)
            }
            0x86dd => {
                let addr =
                    |at: usize| -> IpAddr { <[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes").into() };
                let mut next = frame[l3 + 6];
                let mut at = l3 + 40;
                let mut extensions = Vec::new();
                while !matches!(next, TCP | UDP | icmp::V6) {
                    let len = if next == 44 { 8 } else { (usize::from(frame[at + 1]) + 1) * 8 };
                    let mut bytes = frame[at..at + len].to_vec();
                    extensions.push((next, {
                        bytes[0] = 0;
                        bytes
                    }));
                    next = frame[at];
                    at += len;
                }
                let end = l3 + 40 + usize::from(word(l3 + 4));
                (addr(l3 + 8), addr(l3 + 24), frame[l3 + 7], Vec::new(), extensions, next, at, end)
            }
            other => panic!("EtherType {other:#06x}"),
        };
        let long = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("4 bytes"));
        let (l4, payload_at) = match proto {
            TCP => {
                let l4 = L4::Tcp { seq: long(l4_at + 4), ack: long(l4_at + 8), flags: frame[l4_at + 13] };
                (l4, l4_at + usize::from(frame[l4_at + 12] >> 4) * 4)
            }
            UDP => (L4::Udp { checksum: word(l4_at + 6) != 0 }, l4_at + 8),
            _ => {
                let l4 = L4::Icmp { kind: frame[l4_at], code: frame[l4_at + 1], rest: long(l4_at + 4) };
                (l4, l4_at + icmp::HEADER)
            }
        };
        let port = |at: usize| if matches!(l4, L4::Icmp { .. }) { 0 } else { word(at) };
        let mac = |at: usize| <[u8; 6]>::try_from(&frame[at..at + 6]).expect("6 bytes");
        let craft = Self {
            macs: (mac(0), mac(6)),
            tags,
            src: SocketAddr::new(src, port(l4_at)),
            dst: SocketAddr::new(dst, port(l4_at + 2)),
            ttl,
            options,
            extensions,
            l4,
            payload: frame[payload_at..end].to_vec(),
        };
        if craft.l4 != (L4::Udp { checksum: false }) {
            let total = craft.pseudo_sum(end - l4_at) + sum(&frame[l4_at..end]);
            assert_eq!(fold(total), 0xffff, "L4 checksum of {craft:?}");
        }
        craft
    }

    /// The same packet from the other side: addresses and ports exchanged.
    pub fn answered(&self, l4: L4, payload: &[u8]) -> Self {
        Self {
            macs: (EDGE_MAC, self.macs.0),
            src: self.dst,
            dst: self.src,
            l4,
            ttl: 64,
            payload: payload.to_vec(),
            ..self.clone()
        }
    }
}
