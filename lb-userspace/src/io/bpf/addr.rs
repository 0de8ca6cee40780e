//! Addresses and ports between Rust's types and the map ABI, the only place where their byte order is turned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::abi::{Addr4, Addr6};

/// An address as a key of `LOCALS`.
pub(super) fn to_abi(address: IpAddr) -> Addr6 {
    match address {
        IpAddr::V4(a) => [u32::from_le_bytes(a.octets()), 0, 0, 0],
        IpAddr::V6(a) => {
            let o = a.octets();
            std::array::from_fn(|i| u32::from_le_bytes([o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]]))
        }
    }
}

/// A key of `LOCALS` as an address. It carries no family: words 1 to 3 of an IPv4 address are zero, which of all IPv6
/// addresses only a subnet-router anycast address of a /32 or shorter has.
pub(super) fn from_abi(address: Addr6) -> IpAddr {
    if address[1..] == [0; 3] { v4(address[0]) } else { v6(address) }
}

/// An IPv4 address.
pub(super) fn v4(address: Addr4) -> IpAddr {
    Ipv4Addr::from(address.to_le_bytes()).into()
}

/// An IPv6 address.
pub(super) fn v6(address: Addr6) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(address) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Ipv6Addr::from(octets).into()
}

/// Source and destination with the ports of `FlowKey::ports`.
pub(super) fn ends(src: IpAddr, dst: IpAddr, ports: u32) -> (SocketAddr, SocketAddr) {
    let [a, b, c, d] = ports.to_le_bytes();
    (SocketAddr::new(src, u16::from_be_bytes([a, b])), SocketAddr::new(dst, u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.0.0.1", "255.1.2.3", "2001:db8::1", "fe80::1:0:0", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(from_abi(to_abi(address)), address, "{text}");
        }
    }

    #[test]
    fn words_are_as_a_little_endian_load_from_the_packet_yields_them() {
        assert_eq!(to_abi("10.1.2.3".parse().unwrap()), [0x0302_010a, 0, 0, 0]);
        assert_eq!(to_abi("102:304:506::1".parse().unwrap()), [0x0403_0201, 0x0605, 0, 0x0100_0000]);
    }

    #[test]
    fn ports_are_source_low_destination_high_in_network_order() {
        let (src, dst) = ends(v4(1), v4(2), 0x5000_3412);
        assert_eq!((src.port(), dst.port()), (0x1234, 0x0050));
    }
}
