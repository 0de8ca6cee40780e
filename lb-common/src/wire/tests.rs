//! Every truncation and arbitrary bytes: no accessor leaves the packet, and what is located fits.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn ipv4_udp(options: usize, payload: usize) -> Vec<u8> {
    let total = 20 + options + 8 + payload;
    let mut p = vec![0u8; 14];
    p[12..14].copy_from_slice(&[0x08, 0x00]);
    p.push(0x40 | (5 + options / 4) as u8);
    p.push(0);
    p.extend((total as u16).to_be_bytes());
    p.extend([0, 1, 0x40, 0, 64, l4::UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    p.resize(14 + total, 0);
    p
}

fn ipv6_udp(chain: &[(u8, Vec<u8>)], payload: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for (i, (_, header)) in chain.iter().enumerate() {
        let mut header = header.clone();
        header[0] = chain.get(i + 1).map_or(l4::UDP, |(n, _)| *n);
        body.extend(header);
    }
    body.resize(body.len() + 8 + payload, 0);
    let mut p = vec![0u8; 14];
    p[12..14].copy_from_slice(&[0x86, 0xdd]);
    p.extend([0x60, 0, 0, 0]);
    p.extend((body.len() as u16).to_be_bytes());
    p.push(chain.first().map_or(l4::UDP, |(n, _)| *n));
    p.push(64);
    p.extend([0u8; 32]);
    p.extend(body);
    p
}

#[test]
fn link_two_tags_are_read_and_three_refused() {
    let mut p = vec![0u8; 12];
    p.extend([0x88, 0xa8, 0x00, 0x0a, 0x81, 0x00, 0x00, 0x14, 0x08, 0x00]);
    let got = eth::link(&p.as_mut_slice()).unwrap();
    assert_eq!((got.l3, got.proto), (22, eth::IPV4));
    assert_eq!((got.outer, got.inner), (10u16.to_be(), 20u16.to_be()));
    p.truncate(20);
    p.extend([0x81, 0x00, 0, 1, 8, 0]);
    assert_eq!(eth::link(&p.as_mut_slice()), None);
}

#[rstest]
#[case(0)]
#[case(4)]
#[case(40)]
fn ipv4_l4_is_found_behind_options(#[case] options: usize) {
    let mut p = ipv4_udp(options, 5);
    p.extend([0; 13]); // padding is legal
    let got = ipv4::locate(&p.as_mut_slice(), 14).unwrap();
    assert_eq!(got, Located { l4: 34 + options, proto: l4::UDP, ip_len: (33 + options) as u32 });
}

#[test]
fn ipv4_every_truncation_is_refused() {
    let whole = ipv4_udp(8, 5);
    for n in 0..whole.len() {
        let mut cut = whole[..n].to_vec();
        assert_eq!(ipv4::locate(&cut.as_mut_slice(), 14), Err(Fault::Truncated), "at {n}");
    }
}

#[rstest]
#[case::short_header(14, 0x44, Fault::Malformed)]
#[case::version(14, 0x65, Fault::Malformed)]
#[case::total_below_header(17, 19, Fault::Malformed)]
#[case::more_fragments(20, 0x20, Fault::FirstFragment)]
#[case::fragment_offset(21, 0x01, Fault::LaterFragment)]
fn ipv4_bad_field_is_named(#[case] at: usize, #[case] value: u8, #[case] fault: Fault) {
    let mut p = ipv4_udp(0, 0);
    p[at] = value;
    assert_eq!(ipv4::locate(&p.as_mut_slice(), 14), Err(fault));
}

#[test]
fn ipv6_chain_is_walked_within_bounds() {
    let options =
        |n: u8| vec![0, n, 0, 0, 0, 0, 0, 0].into_iter().chain(vec![0; usize::from(n) * 8]).collect::<Vec<u8>>();
    let mut p = ipv6_udp(&[(0, options(0)), (60, options(2)), (44, vec![0; 8])], 3);
    let got = ipv6::locate(&p.as_mut_slice(), 14).unwrap();
    assert_eq!((got.l4, got.proto), (14 + 40 + 8 + 24 + 8, l4::UDP));
    let six: Vec<_> = (0..6).map(|_| (60, options(0))).collect();
    assert!(ipv6::locate(&ipv6_udp(&six, 0).as_mut_slice(), 14).is_ok());
    let seven: Vec<_> = (0..7).map(|_| (60, options(0))).collect();
    assert_eq!(ipv6::locate(&ipv6_udp(&seven, 0).as_mut_slice(), 14), Err(Fault::Malformed));
}

#[rstest]
#[case::first_fragment((44, vec![0, 0, 0, 1, 0, 0, 0, 0]), Fault::FirstFragment)]
#[case::later_fragment((44, vec![0, 0, 0, 9, 0, 0, 0, 0]), Fault::LaterFragment)]
#[case::segments_left((43, vec![0, 0, 0, 1, 0, 0, 0, 0]), Fault::Malformed)]
#[case::overlong((60, vec![0, 255, 0, 0, 0, 0, 0, 0]), Fault::Malformed)]
fn ipv6_bad_extension_is_named(#[case] header: (u8, Vec<u8>), #[case] fault: Fault) {
    let again = (60u8, vec![0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ipv6::locate(&ipv6_udp(&[header, again], 0).as_mut_slice(), 14), Err(fault));
}

#[test]
fn ipv6_every_truncation_is_refused() {
    let whole = ipv6_udp(&[(0, vec![0; 8])], 5);
    for n in 0..whole.len() {
        let mut cut = whole[..n].to_vec();
        assert_eq!(ipv6::locate(&cut.as_mut_slice(), 14), Err(Fault::Truncated), "at {n}");
    }
}

#[test]
fn unicast_sources_are_told_from_others() {
    let v4 = |o: [u8; 4]| u32::from_le_bytes(o);
    assert!(ipv4::is_unicast(v4([10, 0, 0, 1])) && ipv4::is_unicast(v4([223, 0, 0, 1])));
    for bad in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!ipv4::is_unicast(v4(bad)));
    }
    assert!(ipv6::is_unicast(&[0xb80d_0120, 0, 0, 1]));
    assert!(
        !ipv6::is_unicast(&[0; 4])
            && !ipv6::is_unicast(&[0, 0, 0, 0x0100_0000])
            && !ipv6::is_unicast(&[0x02ff, 0, 0, 1])
    );
}

proptest! {
    #[test]
    fn locate_of_arbitrary_bytes_stays_within_the_frame(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
        if bytes.len() > 14 { bytes[14] = if v6 { 0x60 } else { 0x40 | bytes[14] & 0x0f }; }
        let frame = bytes.as_mut_slice();
        let found = if v6 { ipv6::locate(&frame, 14) } else { ipv4::locate(&frame, 14) };
        if let Ok(found) = found {
            prop_assert!(14 + found.ip_len as usize <= frame.len());
            prop_assert!(found.l4 >= 34);
        }
        let _ = eth::link(&frame);
    }
}

/// An IPv4 packet's first bytes, as an error quotes them.
fn quote4(options: usize, proto: u8, frags: u16, l4: usize) -> Vec<u8> {
    let mut p = vec![0u8; 20 + options + l4];
    (p[0], p[9]) = (0x40 | (5 + options / 4) as u8, proto);
    p[6..8].copy_from_slice(&frags.to_be_bytes());
    p
}

#[rstest]
#[case(quote4(0, l4::TCP, 0, 8), Ok(icmp::Quoted { l4: 20, proto: l4::TCP }))]
#[case(quote4(12, l4::UDP, 0x4000, 8), Ok(icmp::Quoted { l4: 32, proto: l4::UDP }))]
#[case::first_fragment(quote4(0, l4::UDP, 0x2000, 8), Ok(icmp::Quoted { l4: 20, proto: l4::UDP }))]
#[case::later_fragment(quote4(0, l4::UDP, 0x2001, 8), Err(Fault::LaterFragment))]
#[case::cut(quote4(0, l4::UDP, 0, 7), Err(Fault::Truncated))]
#[case::an_error(quote4(0, icmp::V4, 0, 8), Err(Fault::Malformed))]
#[case::no_header(vec![0x45; 19], Err(Fault::Truncated))]
#[case::short_header(vec![0x44; 40], Err(Fault::Malformed))]
#[case::version(vec![0x65; 40], Err(Fault::Malformed))]
fn quoted_ipv4_packet_is_found(#[case] mut quote: Vec<u8>, #[case] expected: Result<icmp::Quoted, Fault>) {
    let end = quote.len();
    // Behind the error's end there may be padding.
    quote.extend([0; 40]);
    let got = icmp::quoted4(&quote.as_mut_slice(), 0, end);
    if end == 19 {
        assert_eq!(icmp::quoted4(&quote[..19].to_vec().as_mut_slice(), 0, end), expected);
    } else {
        assert_eq!(got, expected);
    }
}

#[test]
fn quoted_ipv6_packet_is_found_behind_a_fragment_header_alone() {
    let quote = |next: u8, rest: &[u8]| [&[0x60, 0, 0, 0, 0, 0, next, 64][..], &[0; 32], rest].concat();
    let find = |mut quote: Vec<u8>| {
        let end = quote.len();
        icmp::quoted6(&quote.as_mut_slice(), 0, end)
    };
    assert_eq!(find(quote(l4::TCP, &[0; 8])), Ok(icmp::Quoted { l4: 40, proto: l4::TCP }));
    assert_eq!(find(quote(l4::TCP, &[0; 7])), Err(Fault::Truncated));
    let mut rest = vec![l4::UDP, 0, 0, 1, 0, 0, 0, 9];
    rest.extend([0; 8]);
    assert_eq!(find(quote(44, &rest)), Ok(icmp::Quoted { l4: 48, proto: l4::UDP }));
    rest[3] = 9;
    assert_eq!(find(quote(44, &rest)), Err(Fault::LaterFragment));
    assert_eq!(find(quote(icmp::V6, &[0; 16])), Err(Fault::Malformed), "an error about an error");
    assert_eq!(find(quote(60, &[0; 16])), Err(Fault::Malformed));
}

#[test]
fn ipv4_part_has_its_place() {
    let mut p = ipv4_udp(8, 24);
    p.extend([0; 5]);
    (p[18], p[19]) = (0xab, 0xcd);
    assert_eq!(ipv4::part(&p.as_mut_slice(), 14), Err(Fault::Malformed), "whole");
    (p[20], p[21]) = (0x20, 3);
    let part = ipv4::part(&p.as_mut_slice(), 14).unwrap();
    let id = u32::from(u16::from_le_bytes([0xab, 0xcd]));
    assert_eq!(part, Part { at: 42, proto: l4::UDP, ip_len: 60, id, offset: 24, len: 32, more: true });
    assert!(part.is_possible());
    assert!(!Part { len: 31, ..part }.is_possible(), "not in units of eight");
    assert!(Part { len: 31, more: false, ..part }.is_possible());
    assert!(!Part { offset: 65_528, len: 8, ..part }.is_possible(), "longer than a length can say");
    assert!(!Part { len: 0, more: false, ..part }.is_possible());
}

#[test]
fn ipv6_part_is_found_behind_other_headers() {
    let part = |chain: &[(u8, Vec<u8>)]| ipv6::part(&ipv6_udp(chain, 16).as_mut_slice(), 14);
    let fragment = |place: u16| (44u8, [&[0, 0][..], &place.to_be_bytes(), &[1, 2, 3, 4]].concat());
    assert_eq!(part(&[]), Err(Fault::Malformed), "whole");
    assert_eq!(part(&[fragment(0)]), Err(Fault::Malformed), "atomic: whole, too");
    let id = u32::from_le_bytes([1, 2, 3, 4]);
    let first = Part { at: 70, proto: l4::UDP, ip_len: 80, id, offset: 0, len: 24, more: true };
    let found = part(&[(0, vec![0; 8]), fragment(1)]);
    assert_eq!(found, Ok(first));
    let last = part(&[fragment(0x0100)]).unwrap();
    assert_eq!((last.at, last.offset, last.more), (62, 256, false));
    assert_eq!(part(&[(43, vec![0, 0, 0, 1, 0, 0, 0, 0]), fragment(1)]), Err(Fault::Malformed), "segments left");
}

proptest! {
    #[test]
    fn quotes_and_parts_of_arbitrary_bytes_stay_within_the_frame(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
        if bytes.len() > 14 { bytes[14] = if v6 { 0x60 } else { 0x40 | bytes[14] & 0x0f }; }
        let end = bytes.len();
        let frame = bytes.as_mut_slice();
        let quoted = if v6 { icmp::quoted6(&frame, 14, end) } else { icmp::quoted4(&frame, 14, end) };
        if let Ok(quoted) = quoted {
            prop_assert!(quoted.l4 + 8 <= end && l4::is_known(quoted.proto));
        }
        let part = if v6 { ipv6::part(&frame, 14) } else { ipv4::part(&frame, 14) };
        if let Ok(part) = part {
            prop_assert!(part.at + part.len as usize == 14 + part.ip_len as usize && 14 + part.ip_len as usize <= end);
            prop_assert!(part.offset != 0 || part.more);
        }
    }
}
