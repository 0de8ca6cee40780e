//! Tells the network where an address is now: gratuitous ARP (RFC 5227, section 3, in the request form, which every
//! neighbour takes) and unsolicited neighbour advertisements (RFC 4861, section 7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use lb_common::checksum;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Announcements are lost like any frame, so each is sent this often,
const TIMES: u32 = 3;
/// with this pause (RFC 5227's ANNOUNCE_INTERVAL is 2 s; a failover should not wait for the last one).
const PAUSE: Duration = Duration::from_secs(1);

const ARP_LEN: usize = 42;
const NA_LEN: usize = 86;
const ICMPV6: u8 = 58;

/// Announces addresses from an interface, several times. Ends early, with a line in the log, if the interface goes away.
pub(super) async fn announce(ifindex: u32, mac: [u8; 6], addresses: Vec<IpAddr>) {
    for round in 0..TIMES {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        for address in &addresses {
            let sent = match address {
                IpAddr::V4(a) => send(ifindex, libc::ETH_P_ARP, &arp(mac, *a)),
                IpAddr::V6(a) => send(ifindex, libc::ETH_P_IPV6, &advertisement(mac, *a)),
            };
            if let Err(error) = sent {
                tracing::warn!(%address, ifindex, %error, "could not announce the address; neighbours keep what they know");
                return;
            }
        }
    }
}

/// An ARP request for our own address, from it.
pub(super) fn arp(mac: [u8; 6], address: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut frame = [0; ARP_LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    // EtherType ARP; Ethernet, IPv4, lengths 6 and 4, request.
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    // The target's MAC stays zero.
    frame[38..].copy_from_slice(&address.octets());
    frame
}

/// A neighbour advertisement to all nodes, with the override flag: caches are to be replaced.
fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> [u8; NA_LEN] {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut icmp = [0u8; 32];
    icmp[0] = 136;
    icmp[4] = 0x20;
    icmp[8..24].copy_from_slice(&address.octets());
    // Option: target link-layer address, 8 bytes.
    icmp[24..26].copy_from_slice(&[2, 1]);
    icmp[26..].copy_from_slice(&mac);
    let pseudo = [0, 0, 0, icmp.len() as u8, 0, 0, 0, ICMPV6];
    let sum = [&address.octets()[..], &all_nodes.octets(), &pseudo, &icmp].map(checksum::sum).iter().sum();
    icmp[2..4].copy_from_slice(&(!checksum::fold(sum)).to_ne_bytes());

    let mut frame = [0; NA_LEN];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    frame[19] = icmp.len() as u8;
    frame[20] = ICMPV6;
    // Receivers refuse any other hop limit: it proves that the frame crossed no router.
    frame[21] = 255;
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&all_nodes.octets());
    frame[54..].copy_from_slice(&icmp);
    frame
}

fn send(ifindex: u32, protocol: i32, frame: &[u8]) -> io::Result<()> {
    // Protocol 0: the socket receives nothing.
    let socket: OwnedFd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`, a struct of integers.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = (protocol as u16).to_be();
    to.sll_ifindex = ifindex as i32;
    // SAFETY: both pointers are valid for the lengths given with them, for the duration of the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
