//! An address prefix, such as `10.0.0.0/24`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// Whether an address is one of them. An IPv4 address that came by an IPv6 socket is one of IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

/// The address with all but its first bits 0.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is not an IP address"))?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|n| *n <= most && bits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| format!("a prefix has 0 to {most} bits, not {bits:?}"))?,
        };
        let network = masked(address, bits);
        if network != address {
            return Err(format!("has bits behind the prefix; did you mean {network}/{bits}?"));
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.0.0.0/24", "10.0.0.255", true)]
    #[case("10.0.0.0/24", "10.0.1.0", false)]
    #[case("10.0.0.2", "10.0.0.2", true)]
    #[case("10.0.0.2", "10.0.0.3", false)]
    #[case("0.0.0.0/0", "203.0.113.9", true)]
    #[case("0.0.0.0/0", "2001:db8::1", false)]
    #[case("::/0", "2001:db8::1", true)]
    #[case("::/0", "10.0.0.1", false)]
    #[case("2001:db8::/33", "2001:db8:7fff::1", true)]
    #[case("2001:db8::/33", "2001:db8:8000::1", false)]
    #[case("10.0.0.0/8", "::ffff:10.1.2.3", true)]
    fn contains_compares_the_first_bits(#[case] prefix: &str, #[case] address: &str, #[case] wanted: bool) {
        assert_eq!(prefix.parse::<Prefix>().unwrap().contains(address.parse().unwrap()), wanted);
    }

    #[rstest]
    #[case("web-01", "\"web-01\" is not an IP address")]
    #[case("10.0.0.0/33", "a prefix has 0 to 32 bits, not \"33\"")]
    #[case("10.0.0.0/", "a prefix has 0 to 32 bits, not \"\"")]
    #[case("10.0.0.0/+8", "a prefix has 0 to 32 bits, not \"+8\"")]
    #[case("10.0.0.5/24", "has bits behind the prefix; did you mean 10.0.0.0/24?")]
    fn parse_of_what_is_no_prefix_says_why(#[case] text: &str, #[case] why: &str) {
        assert_eq!(text.parse::<Prefix>().unwrap_err(), why);
    }
}
