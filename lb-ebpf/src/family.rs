//! What differs between IPv4 and IPv6: maps, key, hash, and the rewrite of the IP header. All else is generic.

use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, Queue};
use lb_common::abi::{Addr4, Addr6, Bucket, DirectBucket, Flow, FlowKey, FlowKey4, FlowKey6, Fragment, Settings};
use lb_common::checksum::{delta32, update, update16};
use lb_common::hash::{FlowHash, bitmap_bit4, bitmap_bit6, mix, tag4, tag6};
use lb_common::wire::load::{load16, load32, load64, store16, store32, store64};
use lb_common::wire::{Fault, Located, Packet, Part, icmp, ipv4, ipv6, tunnel};

use crate::frame::forget;
use crate::maps;
use crate::step::Work;

/// A value that may be written by words of eight bytes.
#[repr(C, align(8))]
pub struct Aligned<T>(pub T);

/// What a TTL less by one adds to the IPv4 header's sum: the TTL is the first byte of its word.
const TTL_DELTA: u64 = 0xfffe;

/// TTL and hop limit of what we originate.
pub const OWN_TTL: u8 = 64;

/// A version of IP.
pub trait Family: Sized {
    /// Its address.
    type Addr: Copy + 'static;
    /// 4 or 6.
    const NUMBER: u8;
    /// Index in `Clock::kept`.
    const INDEX: usize;
    /// Length of the header without options or extensions.
    const HEADER: usize;
    /// Offset of TTL or hop limit.
    const TTL: usize;
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// Type of the answer to an echo request.
    const ECHO_REPLY: u8;
    /// Type of its ICMP's "time exceeded".
    const TIME_EXCEEDED: u8;
    /// A key to be filled.
    const EMPTY_KEY: FlowKey<Self::Addr>;

    fn flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    fn half_open() -> &'static Array<Bucket<Self::Addr>>;
    fn direct() -> &'static Array<DirectBucket<Self::Addr>>;
    fn ages() -> &'static Queue<FlowKey<Self::Addr>>;
    fn work() -> &'static PerCpuArray<Work<Self::Addr>>;
    fn fragments() -> &'static LruHashMap<FlowKey<Self::Addr>, Fragment>;

    /// Where L4 is, if the header at `ip` has version and length as most do, no options, no extensions and no fragment.
    /// Lengths are not checked against the frame.
    ///
    /// # Safety
    /// The header, without options or extensions, is there: as for all that take `ip`.
    unsafe fn plain(ip: *const u8, l3: usize) -> Option<Located>;
    /// Checks the header and finds L4 behind whatever stands before it.
    fn locate<P: Packet>(packet: &P, l3: usize) -> Result<Located, Fault>;
    /// The fragment at `l3`.
    fn part<P: Packet>(packet: &P, l3: usize) -> Result<Part, Fault>;
    /// An identification that was not used for long, as loaded, from a cursor.
    fn fresh_id(cursor: u64) -> u32;
    /// Gives the fragment at `l3`, whose part of the packet begins at `at`, another identification.
    fn identify<P: Packet>(packet: &P, l3: usize, at: usize, id: u32);
    /// Destination address of the header at `ip`.
    unsafe fn destination(ip: *const u8) -> Self::Addr;
    /// Writes the addresses of the header at `ip` into a key.
    unsafe fn addresses(ip: *const u8, key: &mut Aligned<FlowKey<Self::Addr>>);
    fn bitmap_bit(addr: &Self::Addr) -> (u32, u32);
    fn hash(key: &FlowKey<Self::Addr>, seed: u32) -> FlowHash;
    fn tag(key: &FlowKey<Self::Addr>) -> u32;
    fn same(a: &Self::Addr, b: &Self::Addr) -> bool;
    fn is_unicast(addr: &Self::Addr) -> bool;
    /// As service and local keys hold it.
    fn wide(addr: &Self::Addr) -> Addr6;
    fn narrow(addr: &Addr6) -> &Self::Addr;
    /// Number of source addresses.
    fn pool_len(settings: &Settings) -> u32;
    /// A source address.
    fn pool(settings: &Settings, index: u32) -> &Self::Addr;
    /// What replacing one address by another adds to a checksum.
    fn delta(old: &Self::Addr, new: &Self::Addr) -> u64;
    /// What forwarding adds to the IP header's sum, given what the addresses add.
    fn header_delta(addresses: u64) -> u64;
    /// Writes addresses, decrements the TTL, updates the header's checksum: see [`Family::header_delta`].
    unsafe fn rewrite(ip: *mut u8, src: &Self::Addr, dst: &Self::Addr, l3_delta: u32);
    /// Decrements the TTL, which is above 0, and updates the header's checksum.
    unsafe fn decrement(ip: *mut u8);
    /// DSCP and ECN.
    unsafe fn class(ip: *const u8) -> u8;
    /// Makes the header that came from `src` to `dst` its answer's: addresses exchanged, a TTL of our own.
    unsafe fn turn_round(ip: *mut u8, src: &Self::Addr, dst: &Self::Addr);
    /// Finds the L4 header of the packet that an ICMP error quotes at `at`; the error ends at `end`.
    fn quoted<P: Packet>(packet: &P, at: usize, end: usize) -> Result<icmp::Quoted, Fault>;
    /// Writes addresses into a quoted header, and updates its checksum by what they add; returns what that adds to a sum
    /// over the header.
    unsafe fn requote(ip: *mut u8, src: &Self::Addr, dst: &Self::Addr, addresses: u64) -> u64;
    /// What an ICMP message of this type is.
    fn icmp_kind(kind: u8) -> icmp::Kind;

    #[inline(always)]
    fn same_key(a: &FlowKey<Self::Addr>, b: &FlowKey<Self::Addr>) -> bool {
        a.ports == b.ports && a.proto == b.proto && Self::same(&a.src, &b.src) && Self::same(&a.dst, &b.dst)
    }
}

/// IPv4.
pub struct V4;

impl Family for V4 {
    type Addr = Addr4;
    const NUMBER: u8 = 4;
    const INDEX: usize = 0;
    const HEADER: usize = ipv4::HEADER;
    const TTL: usize = ipv4::TTL;
    const ICMP: u8 = icmp::V4;
    const ECHO_REPLY: u8 = icmp::ECHO_REPLY4;
    const TIME_EXCEEDED: u8 = icmp::TIME_EXCEEDED4;
    const EMPTY_KEY: FlowKey4 = FlowKey { src: 0, dst: 0, ports: 0, proto: 0 };

    #[inline(always)]
    fn flows() -> &'static HashMap<FlowKey<Addr4>, Flow<Addr4>> {
        &maps::FLOWS4
    }

    #[inline(always)]
    fn half_open() -> &'static Array<Bucket<Addr4>> {
        &maps::HALF_OPEN4
    }

    #[inline(always)]
    fn direct() -> &'static Array<DirectBucket<Addr4>> {
        &maps::DIRECT4
    }

    #[inline(always)]
    fn ages() -> &'static Queue<FlowKey<Addr4>> {
        &maps::AGES4
    }

    #[inline(always)]
    fn work() -> &'static PerCpuArray<Work<Addr4>> {
        &maps::WORK4
    }

    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FlowKey<Addr4>, Fragment> {
        &maps::FRAGMENTS4
    }

    #[inline(always)]
    fn part<P: Packet>(packet: &P, l3: usize) -> Result<Part, Fault> {
        ipv4::part(packet, l3)
    }

    #[inline(always)]
    fn fresh_id(cursor: u64) -> u32 {
        u32::from((cursor as u16).to_be())
    }

    #[inline(always)]
    fn identify<P: Packet>(packet: &P, l3: usize, _at: usize, id: u32) {
        let Some(ip) = packet.ptr(l3, ipv4::HEADER) else { return };
        // SAFETY: the header is there.
        unsafe {
            let (old, check) = (load16(ip.add(ipv4::ID)), load16(ip.add(ipv4::CHECK)));
            store16(ip.add(ipv4::ID), id as u16);
            store16(ip.add(ipv4::CHECK), update(check, u64::from(!old) + u64::from(id as u16)));
        }
    }

    #[inline(always)]
    unsafe fn plain(ip: *const u8, l3: usize) -> Option<Located> {
        // SAFETY: the caller's.
        unsafe { ipv4::plain(ip, l3) }
    }

    #[inline(always)]
    fn locate<P: Packet>(packet: &P, l3: usize) -> Result<Located, Fault> {
        ipv4::locate(packet, l3)
    }

    #[inline(always)]
    unsafe fn destination(ip: *const u8) -> Addr4 {
        // SAFETY: the caller's.
        unsafe { load32(ip.add(ipv4::DST)) }
    }

    #[inline(always)]
    unsafe fn addresses(ip: *const u8, key: &mut Aligned<FlowKey<Addr4>>) {
        // The key begins with both addresses, as the header ends with them.
        // SAFETY: the caller's; the key is aligned to eight bytes.
        unsafe { store64((&raw mut key.0).cast(), load64(ip.add(ipv4::SRC))) };
    }

    #[inline(always)]
    fn bitmap_bit(addr: &Addr4) -> (u32, u32) {
        bitmap_bit4(*addr)
    }

    #[inline(always)]
    fn hash(key: &FlowKey<Addr4>, seed: u32) -> FlowHash {
        FlowHash::v4(key, seed)
    }

    #[inline(always)]
    fn tag(key: &FlowKey<Addr4>) -> u32 {
        tag4(key)
    }

    #[inline(always)]
    fn same(a: &Addr4, b: &Addr4) -> bool {
        a == b
    }

    #[inline(always)]
    fn is_unicast(addr: &Addr4) -> bool {
        ipv4::is_unicast(*addr)
    }

    #[inline(always)]
    fn wide(addr: &Addr4) -> Addr6 {
        [*addr, 0, 0, 0]
    }

    #[inline(always)]
    fn narrow(addr: &Addr6) -> &Addr4 {
        &addr[0]
    }

    #[inline(always)]
    fn pool_len(settings: &Settings) -> u32 {
        settings.pool4_len
    }

    #[inline(always)]
    fn pool(settings: &Settings, index: u32) -> &Addr4 {
        &settings.pool4[index as usize & 7]
    }

    #[inline(always)]
    fn delta(old: &Addr4, new: &Addr4) -> u64 {
        delta32(*old, *new)
    }

    #[inline(always)]
    fn header_delta(addresses: u64) -> u64 {
        addresses + TTL_DELTA
    }

    #[inline(always)]
    unsafe fn rewrite(ip: *mut u8, src: &Addr4, dst: &Addr4, l3_delta: u32) {
        // SAFETY: the caller's.
        unsafe {
            store32(ip.add(ipv4::SRC), *src);
            store32(ip.add(ipv4::DST), *dst);
            *ip.add(ipv4::TTL) -= 1;
            let check = load16(ip.add(ipv4::CHECK));
            store16(ip.add(ipv4::CHECK), update16(check, l3_delta as u16));
        }
    }

    #[inline(always)]
    unsafe fn decrement(ip: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            *ip.add(ipv4::TTL) -= 1;
            let check = load16(ip.add(ipv4::CHECK));
            store16(ip.add(ipv4::CHECK), update16(check, TTL_DELTA as u16));
        }
    }

    #[inline(always)]
    unsafe fn turn_round(ip: *mut u8, src: &Addr4, dst: &Addr4) {
        // SAFETY: the caller's.
        unsafe {
            store32(ip.add(ipv4::SRC), *dst);
            store32(ip.add(ipv4::DST), *src);
            // TTL and protocol are one word of the checksum.
            let (old, check) = (load16(ip.add(ipv4::TTL)), load16(ip.add(ipv4::CHECK)));
            let new = old & 0xff00 | u16::from(OWN_TTL);
            store16(ip.add(ipv4::TTL), new);
            store16(ip.add(ipv4::CHECK), update(check, u64::from(!old) + u64::from(new)));
        }
    }

    #[inline(always)]
    unsafe fn class(ip: *const u8) -> u8 {
        // SAFETY: the caller's.
        unsafe { tunnel::class4(ip) }
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize, end: usize) -> Result<icmp::Quoted, Fault> {
        icmp::quoted4(packet, at, end)
    }

    #[inline(always)]
    unsafe fn requote(ip: *mut u8, src: &Addr4, dst: &Addr4, addresses: u64) -> u64 {
        // SAFETY: the caller's.
        unsafe {
            store32(ip.add(ipv4::SRC), *src);
            store32(ip.add(ipv4::DST), *dst);
            let old = load16(ip.add(ipv4::CHECK));
            let new = update(old, addresses);
            store16(ip.add(ipv4::CHECK), new);
            u64::from(!old) + u64::from(new)
        }
    }

    #[inline(always)]
    fn icmp_kind(kind: u8) -> icmp::Kind {
        icmp::kind4(kind)
    }
}

/// IPv6.
pub struct V6;

impl Family for V6 {
    type Addr = Addr6;
    const NUMBER: u8 = 6;
    const INDEX: usize = 1;
    const HEADER: usize = ipv6::HEADER;
    const TTL: usize = ipv6::HOP_LIMIT;
    const ICMP: u8 = icmp::V6;
    const ECHO_REPLY: u8 = icmp::ECHO_REPLY6;
    const TIME_EXCEEDED: u8 = icmp::TIME_EXCEEDED6;
    const EMPTY_KEY: FlowKey6 = FlowKey { src: [0; 4], dst: [0; 4], ports: 0, proto: 0 };

    #[inline(always)]
    fn flows() -> &'static HashMap<FlowKey<Addr6>, Flow<Addr6>> {
        &maps::FLOWS6
    }

    #[inline(always)]
    fn half_open() -> &'static Array<Bucket<Addr6>> {
        &maps::HALF_OPEN6
    }

    #[inline(always)]
    fn direct() -> &'static Array<DirectBucket<Addr6>> {
        &maps::DIRECT6
    }

    #[inline(always)]
    fn ages() -> &'static Queue<FlowKey<Addr6>> {
        &maps::AGES6
    }

    #[inline(always)]
    fn work() -> &'static PerCpuArray<Work<Addr6>> {
        &maps::WORK6
    }

    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FlowKey<Addr6>, Fragment> {
        &maps::FRAGMENTS6
    }

    #[inline(always)]
    fn part<P: Packet>(packet: &P, l3: usize) -> Result<Part, Fault> {
        ipv6::part(packet, l3)
    }

    #[inline(always)]
    fn fresh_id(cursor: u64) -> u32 {
        // Not to be guessed from the last one (RFC 7739).
        mix(cursor) as u32
    }

    #[inline(always)]
    fn identify<P: Packet>(packet: &P, _l3: usize, at: usize, id: u32) {
        // It ends the fragment header. An offset of its own, or the compiler checks one pointer and uses another.
        if let Some(field) = packet.ptr(forget(at - 4, 0x1fff, id), 4) {
            // SAFETY: four bytes at `field`.
            unsafe { store32(field, id) };
        }
    }

    #[inline(always)]
    unsafe fn plain(ip: *const u8, l3: usize) -> Option<Located> {
        // SAFETY: the caller's.
        unsafe { ipv6::plain(ip, l3) }
    }

    #[inline(always)]
    fn locate<P: Packet>(packet: &P, l3: usize) -> Result<Located, Fault> {
        ipv6::locate(packet, l3)
    }

    #[inline(always)]
    unsafe fn destination(ip: *const u8) -> Addr6 {
        // SAFETY: the caller's.
        unsafe { load_addr(ip.add(ipv6::DST)) }
    }

    #[inline(always)]
    unsafe fn addresses(ip: *const u8, key: &mut Aligned<FlowKey<Addr6>>) {
        // The key begins with both addresses, as the header ends with them.
        let to = (&raw mut key.0).cast::<u8>();
        // SAFETY: the caller's; the key is aligned to eight bytes.
        unsafe {
            for at in [0, 8, 16, 24] {
                store64(to.add(at), load64(ip.add(ipv6::SRC + at)));
            }
        }
    }

    #[inline(always)]
    fn bitmap_bit(addr: &Addr6) -> (u32, u32) {
        bitmap_bit6(addr)
    }

    #[inline(always)]
    fn hash(key: &FlowKey<Addr6>, seed: u32) -> FlowHash {
        FlowHash::v6(key, seed)
    }

    #[inline(always)]
    fn tag(key: &FlowKey<Addr6>) -> u32 {
        tag6(key)
    }

    #[inline(always)]
    fn same(a: &Addr6, b: &Addr6) -> bool {
        // Spelt out: an array comparison becomes a call.
        a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
    }

    #[inline(always)]
    fn is_unicast(addr: &Addr6) -> bool {
        ipv6::is_unicast(addr)
    }

    #[inline(always)]
    fn wide(addr: &Addr6) -> Addr6 {
        *addr
    }

    #[inline(always)]
    fn narrow(addr: &Addr6) -> &Addr6 {
        addr
    }

    #[inline(always)]
    fn pool_len(settings: &Settings) -> u32 {
        settings.pool6_len
    }

    #[inline(always)]
    fn pool(settings: &Settings, index: u32) -> &Addr6 {
        &settings.pool6[index as usize & 7]
    }

    #[inline(always)]
    fn delta(old: &Addr6, new: &Addr6) -> u64 {
        delta32(old[0], new[0]) + delta32(old[1], new[1]) + delta32(old[2], new[2]) + delta32(old[3], new[3])
    }

    #[inline(always)]
    fn header_delta(_addresses: u64) -> u64 {
        0
    }

    #[inline(always)]
    unsafe fn rewrite(ip: *mut u8, src: &Addr6, dst: &Addr6, _l3_delta: u32) {
        // SAFETY: the caller's.
        unsafe {
            store_addr(ip.add(ipv6::SRC), src);
            store_addr(ip.add(ipv6::DST), dst);
            *ip.add(ipv6::HOP_LIMIT) -= 1;
        }
    }

    #[inline(always)]
    unsafe fn decrement(ip: *mut u8) {
        // SAFETY: the caller's.
        unsafe { *ip.add(ipv6::HOP_LIMIT) -= 1 };
    }

    #[inline(always)]
    unsafe fn class(ip: *const u8) -> u8 {
        // SAFETY: the caller's.
        unsafe { tunnel::class6(ip) }
    }

    #[inline(always)]
    unsafe fn turn_round(ip: *mut u8, src: &Addr6, dst: &Addr6) {
        // SAFETY: the caller's.
        unsafe {
            store_addr(ip.add(ipv6::SRC), dst);
            store_addr(ip.add(ipv6::DST), src);
            *ip.add(ipv6::HOP_LIMIT) = OWN_TTL;
        }
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P, at: usize, end: usize) -> Result<icmp::Quoted, Fault> {
        icmp::quoted6(packet, at, end)
    }

    #[inline(always)]
    unsafe fn requote(ip: *mut u8, src: &Addr6, dst: &Addr6, _addresses: u64) -> u64 {
        // SAFETY: the caller's.
        unsafe {
            store_addr(ip.add(ipv6::SRC), src);
            store_addr(ip.add(ipv6::DST), dst);
        }
        0
    }

    #[inline(always)]
    fn icmp_kind(kind: u8) -> icmp::Kind {
        icmp::kind6(kind)
    }
}

/// # Safety
/// 16 bytes of a packet at `at`.
#[inline(always)]
unsafe fn load_addr(at: *const u8) -> Addr6 {
    // SAFETY: the caller's.
    let (a, b) = unsafe { (load64(at), load64(at.add(8))) };
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
}

/// # Safety
/// 16 bytes of a packet at `at`; `addr` is aligned to eight bytes.
#[inline(always)]
unsafe fn store_addr(at: *mut u8, addr: &Addr6) {
    // By two words: in a `Flow` both addresses are aligned to eight bytes.
    let words = addr.as_ptr().cast::<u8>();
    // SAFETY: the caller's.
    unsafe {
        store64(at, load64(words));
        store64(at.add(8), load64(words.add(8)));
    }
}
