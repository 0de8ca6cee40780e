//! Internet checksums, updated incrementally (RFC 1624, eqn. 3): `HC' = ~(~HC + ~m + m')`.
//!
//! One's-complement sums do not depend on byte order (RFC 1071, section 2B), so all arithmetic is on words as loaded.

/// Folds a one's-complement sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    // Four 16-bit words and their carries: three folds reach a fixed point for any u64.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// What replacing the 32-bit word `old` by `new` adds to the sum. Sums of several fit a u64 without overflow.
#[inline(always)]
pub const fn delta32(old: u32, new: u32) -> u64 {
    (!old) as u64 + new as u64
}

/// The checksum field after the covered data's sum changed by `delta`.
#[inline(always)]
pub const fn update(field: u16, delta: u64) -> u16 {
    !fold((!field) as u64 + delta)
}

/// As [`update`] for a delta that is folded to 16 bits already: one fold is enough for the sum of two such words.
#[inline(always)]
pub const fn update16(field: u16, delta: u16) -> u16 {
    let sum = (!field) as u32 + delta as u32;
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// As [`update16`] for UDP, where a computed 0 is sent as 0xffff (RFC 768). The caller leaves an IPv4 field of 0 alone.
#[inline(always)]
pub const fn update_udp(field: u16, delta: u16) -> u16 {
    match update16(field, delta) {
        0 => 0xffff,
        sum => sum,
    }
}

/// One's-complement sum of bytes as native-endian words; an odd last byte counts as if followed by zero. For tests and
/// packets built from nothing, not for the hot path.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0u64;
    let mut words = bytes.chunks_exact(2);
    for w in &mut words {
        total += u16::from_ne_bytes([w[0], w[1]]) as u64;
    }
    if let [last] = words.remainder() {
        total += u16::from_ne_bytes([*last, 0]) as u64;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn update_equals_full_recomputation(mut data in proptest::collection::vec(any::<u8>(), 40..80), new: [u32; 3]) {
            if data.len() % 2 == 1 { data.pop(); }
            // A non-zero word stays, as a header's version and protocol do, so that zero has one representation.
            data[0] = 0x45;
            let field = !fold(sum(&data));
            let mut delta = 0;
            for (i, word) in new.iter().enumerate() {
                let at = 4 + i * 4;
                let old = u32::from_ne_bytes(data[at..at + 4].try_into().expect("4 bytes"));
                delta += delta32(old, *word);
                data[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
            prop_assert_eq!(update(field, delta), !fold(sum(&data)));
            // A delta folded to 16 bits, as flows store it, gives the same.
            prop_assert_eq!(update16(field, fold(delta)), !fold(sum(&data)));
        }

        #[test]
        fn fold_is_congruent_modulo_65535(sum: u64) {
            prop_assert_eq!(u64::from(fold(sum)) % 65535, sum % 65535);
        }
    }

    #[test]
    fn udp_computed_zero_is_sent_as_ffff() {
        assert_eq!(update_udp(0x1234, 0xffff - !0x1234u16), 0xffff);
        assert_eq!(update16(0x1234, 0xffff - !0x1234u16), 0);
    }
}
