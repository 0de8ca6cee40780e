//! The only functions that touch packet memory: wide loads and stores at any alignment.
//!
//! On BPF an aligned access is one instruction, and packet data may be unaligned there (the verifier allows it on every
//! architecture with efficient unaligned access, which all JIT targets of interest are). Elsewhere the access is done the
//! way Rust demands.

macro_rules! access {
    ($load:ident, $store:ident, $t:ty) => {
        #[doc = concat!("Loads a little-endian `", stringify!($t), "`: network byte order kept in memory.")]
        ///
        /// # Safety
        /// The bytes at `at` are within a packet, as [`super::Packet::ptr`] says.
        #[inline(always)]
        pub unsafe fn $load(at: *const u8) -> $t {
            #[cfg(target_arch = "bpf")]
            // SAFETY: the caller's; alignment does not matter on this target.
            unsafe {
                *at.cast::<$t>()
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller's.
            unsafe {
                <$t>::from_le(at.cast::<$t>().read_unaligned())
            }
        }

        #[doc = concat!("Stores a little-endian `", stringify!($t), "`.")]
        ///
        /// # Safety
        /// The bytes at `at` are within a packet, as [`super::Packet::ptr`] says, and nobody else refers to them.
        #[inline(always)]
        pub unsafe fn $store(at: *mut u8, value: $t) {
            #[cfg(target_arch = "bpf")]
            // SAFETY: the caller's; alignment does not matter on this target.
            unsafe {
                *at.cast::<$t>() = value;
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller's.
            unsafe {
                at.cast::<$t>().write_unaligned(value.to_le());
            }
        }
    };
}

access!(load16, store16, u16);
access!(load32, store32, u32);
access!(load64, store64, u64);
