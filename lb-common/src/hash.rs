//! The flow hash: one 64-bit mix of the 5-tuple, cut into what tables, buckets and tags need.
//!
//! Not cryptographic. The seed is random per set of maps unless the operator fixes it so that several edge nodes agree.

use crate::abi::{Addr4, Addr6, BITMAP_WORDS, FlowKey4, FlowKey6};

const C1: u64 = 0xff51_afd7_ed55_8ccd;
const C2: u64 = 0xc4ce_b9fe_1a85_ec53;
const C3: u64 = 0x9e37_79b9_7f4a_7c15;
const C4: u64 = 0xbf58_476d_1ce4_e5b9;
const C5: u64 = 0x94d0_49bb_1331_11eb;

/// The 64-bit finalizer of MurmurHash3 (public domain): every input bit reaches every output bit.
#[inline(always)]
pub const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(C1);
    h ^= h >> 33;
    h = h.wrapping_mul(C2);
    h ^ (h >> 33)
}

/// A hashed flow key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// Hash of an IPv4 key.
    #[inline(always)]
    pub const fn v4(key: &FlowKey4, seed: u32) -> Self {
        let addrs = (key.src as u64) << 32 | key.dst as u64;
        let rest = (key.ports as u64) << 32 | key.proto as u64;
        let h = (addrs ^ seed as u64).wrapping_mul(C1);
        Self(mix((h ^ (h >> 32)) ^ rest.wrapping_mul(C2)))
    }

    /// Hash of an IPv6 key.
    #[inline(always)]
    pub const fn v6(key: &FlowKey6, seed: u32) -> Self {
        let mut h = seed as u64;
        let s = &key.src;
        let d = &key.dst;
        h = fold(h, (s[0] as u64) << 32 | s[1] as u64);
        h = fold(h, (s[2] as u64) << 32 | s[3] as u64);
        h = fold(h, (d[0] as u64) << 32 | d[1] as u64);
        h = fold(h, (d[2] as u64) << 32 | d[3] as u64);
        Self(mix(h ^ ((key.ports as u64) << 32 | key.proto as u64).wrapping_mul(C2)))
    }

    /// For the selection table.
    #[inline(always)]
    pub const fn table(self) -> u32 {
        self.0 as u32
    }

    /// For the half-open bucket and the source address: independent of the table's bits.
    #[inline(always)]
    pub const fn bucket(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Tag of an IPv4 key: enough to tell a reused map element from the one that was looked up, at a third of the hash's
/// cost. No security rests on it.
#[inline(always)]
pub const fn tag4(key: &FlowKey4) -> u32 {
    // Both words as one load each yields them.
    let addrs = key.src as u64 | (key.dst as u64) << 32;
    let rest = key.ports as u64 | (key.proto as u64) << 32;
    (addrs.wrapping_mul(C1).wrapping_add(rest.wrapping_mul(C2)) >> 32) as u32
}

/// As [`tag4`], for IPv6.
#[inline(always)]
pub const fn tag6(key: &FlowKey6) -> u32 {
    let ((s0, s1), (d0, d1)) = (words(&key.src), words(&key.dst));
    let rest = (key.proto as u64) << 32 | key.ports as u64;
    // A factor for each word: realistic addresses differ in few bytes, which one factor for two words would mix up.
    let src = s0.wrapping_mul(C1).wrapping_add(s1.wrapping_mul(C2));
    let dst = d0.wrapping_mul(C3).wrapping_add(d1.wrapping_mul(C4));
    (src.wrapping_add(dst).wrapping_add(rest.wrapping_mul(C5)) >> 32) as u32
}

/// An IPv6 address as two loads of eight bytes yield it. The packet path has them so, and the compiler sees that.
#[inline(always)]
const fn words(addr: &Addr6) -> (u64, u64) {
    (addr[0] as u64 | (addr[1] as u64) << 32, addr[2] as u64 | (addr[3] as u64) << 32)
}

#[inline(always)]
const fn fold(h: u64, word: u64) -> u64 {
    let x = (h ^ word).wrapping_mul(C1);
    x ^ (x >> 32)
}

/// Where an IPv4 address stands in the bitmap: word and bit. Exact membership is in `LOCALS`.
#[inline(always)]
pub const fn bitmap_bit4(addr: Addr4) -> (u32, u32) {
    bitmap_bit(addr)
}

/// As [`bitmap_bit4`], for IPv6. An IPv4 address in word 0 of an otherwise empty one has the same bit in both.
#[inline(always)]
pub const fn bitmap_bit6(addr: &Addr6) -> (u32, u32) {
    let (a, b) = words(addr);
    let word = a ^ b.wrapping_mul(C3);
    bitmap_bit((word ^ word >> 32) as u32)
}

#[inline(always)]
const fn bitmap_bit(word: u32) -> (u32, u32) {
    let h = (word ^ word >> 15).wrapping_mul(0x9e37_79b1) >> 16;
    (h >> 6 & (BITMAP_WORDS - 1), h & 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn hash_single_bit_changes_spread_over_half_of_the_output() {
        let key = FlowKey4 { src: 0x0100_000a, dst: 0x0200_000a, ports: 0x5000_1234, proto: 6 };
        let base = FlowHash::v4(&key, 1).0;
        let mut total = 0;
        for bit in 0..32 {
            for changed in [
                FlowKey4 { src: key.src ^ 1 << bit, ..key },
                FlowKey4 { dst: key.dst ^ 1 << bit, ..key },
                FlowKey4 { ports: key.ports ^ 1 << bit, ..key },
            ] {
                let n = (FlowHash::v4(&changed, 1).0 ^ base).count_ones();
                assert!((12..=52).contains(&n), "{n} bits changed");
                total += n;
            }
        }
        let mean = f64::from(total) / 96.0;
        assert!((30.0..=34.0).contains(&mean), "mean {mean}");
    }

    #[test]
    fn hash_direction_and_family_matter() {
        let key = FlowKey6 { src: [1, 2, 3, 4], dst: [5, 6, 7, 8], ports: 0x5000_1234, proto: 6 };
        assert_ne!(FlowHash::v6(&key, 0), FlowHash::v6(&key.reversed(), 0));
        assert_ne!(FlowHash::v6(&key, 0), FlowHash::v6(&key, 1));
        assert_eq!(key, key.reversed().reversed());
    }

    #[test]
    fn tag_tells_neighbouring_keys_apart() {
        let mut seen = HashSet::new();
        for host in 0..64u32 {
            for port in 0..256u32 {
                let key = FlowKey4 { src: host << 24 | 10, dst: 0x0a02_0001, ports: 0x5000_0000 | port << 8, proto: 6 };
                seen.insert(tag4(&key));
                seen.insert(tag4(&key.reversed()));
                let wide = FlowKey6 { src: [1, 0, 0, key.src], dst: [2, 0, 0, 1], ports: key.ports, proto: 6 };
                seen.insert(tag6(&wide));
                seen.insert(tag6(&wide.reversed()));
            }
        }
        assert!(seen.len() > 4 * 64 * 256 - 8, "{} distinct tags", seen.len());
    }

    #[test]
    fn bitmap_bit_of_an_ipv4_address_is_the_same_in_wide_form() {
        for addr in [0u32, 1, 0x0a00_0001, 0xffff_ffff, 0x0a02_00c0] {
            assert_eq!(bitmap_bit4(addr), bitmap_bit6(&[addr, 0, 0, 0]));
        }
        let of = |host: u32| bitmap_bit6(&[0xb80d_0120, 0, 0, host.to_be()]);
        let distinct: HashSet<_> = (1..=4096).map(of).collect();
        assert!(distinct.len() > 3500, "{} distinct bits of 4096 addresses", distinct.len());
    }

    #[test]
    fn bitmap_indices_stay_in_range_and_spread() {
        let mut seen = HashSet::new();
        for i in 0..4096u32 {
            let (word, bit) = bitmap_bit4(0x0a00_0000 | i << 8);
            assert!(word < BITMAP_WORDS && bit < 64);
            seen.insert((word, bit));
        }
        assert!(seen.len() > 3500, "{} distinct bits of 4096 addresses", seen.len());
    }
}
