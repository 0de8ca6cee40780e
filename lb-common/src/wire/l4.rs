//! TCP (RFC 9293) and UDP (RFC 768).

use core::mem::offset_of;

use network_types::ip::IpProto;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

/// IP protocol number of TCP.
pub const TCP: u8 = IpProto::Tcp as u8;
/// IP protocol number of UDP.
pub const UDP: u8 = IpProto::Udp as u8;

/// Length of a TCP header without options.
pub const TCP_HEADER: usize = TcpHdr::LEN;
/// Length of a UDP header.
pub const UDP_HEADER: usize = UdpHdr::LEN;

/// Offset of TCP's sequence number.
pub const TCP_SEQ: usize = offset_of!(TcpHdr, seq);
/// Offset of TCP's acknowledgement number.
pub const TCP_ACK: usize = offset_of!(TcpHdr, ack_seq);
/// Offset of TCP's data offset (high four bits).
pub const TCP_DOFF: usize = 12;
/// Offset of TCP's flags.
pub const TCP_FLAGS: usize = 13;
/// Offset of TCP's window.
pub const TCP_WINDOW: usize = offset_of!(TcpHdr, window);
/// Offset of TCP's checksum.
pub const TCP_CHECK: usize = offset_of!(TcpHdr, check);
/// Offset of UDP's length.
pub const UDP_LEN: usize = offset_of!(UdpHdr, len);
/// Offset of UDP's checksum.
pub const UDP_CHECK: usize = offset_of!(UdpHdr, check);

/// TCP's FIN.
pub const FIN: u8 = 0x01;
/// TCP's SYN.
pub const SYN: u8 = 0x02;
/// TCP's RST.
pub const RST: u8 = 0x04;
/// TCP's ACK.
pub const ACK: u8 = 0x10;

/// Whether a protocol is one that services have.
#[inline(always)]
pub const fn is_known(proto: u8) -> bool {
    proto == TCP || proto == UDP
}

/// Whether a TCP header's own length can be, given its byte at [`TCP_DOFF`] and the bytes from its start to the end of
/// the IP packet.
#[inline(always)]
pub const fn tcp_fits(doff: u8, room: u32) -> bool {
    let len = (doff >> 4) as u32 * 4;
    TCP_HEADER as u32 <= len && len <= room
}

/// Whether a UDP length (host order) can be, given the bytes from the header's start to the end of the IP packet.
#[inline(always)]
pub const fn udp_fits(len: u16, room: u32) -> bool {
    UDP_HEADER as u32 <= len as u32 && len as u32 <= room
}

/// Whether flags open a connection: SYN alone among the control flags.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (SYN | ACK | FIN | RST) == SYN
}

/// Whether flags contradict one another: SYN with FIN or RST. No TCP sends them (RFC 9293, section 3.5).
#[inline(always)]
pub const fn contradict(flags: u8) -> bool {
    flags & SYN != 0 && flags & (FIN | RST) != 0
}
