//! Atomics for CPU v3. `core`'s atomic types do not exist on this target (or crash its code generator), the intrinsics
//! behind them do.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

macro_rules! atomics {
    ($add:ident, $swap:ident, $t:ty) => {
        /// Adds, and returns what was there before. Fetch-and-add: kernel 5.12. Not relaxed: for that order LLVM 22 emits
        /// the form without fetch even where the result is used, and the result is then the addend.
        ///
        /// # Safety
        /// `at` points to a map's value, aligned.
        #[inline(always)]
        pub unsafe fn $add(at: *mut $t, n: $t) -> $t {
            // SAFETY: the caller's.
            unsafe { atomic_xadd::<$t, $t, { AtomicOrdering::SeqCst }>(at, n) }
        }

        /// Replaces `old` by `new` if it is there; says whether it was. Compare-and-exchange: kernel 5.12.
        ///
        /// # Safety
        /// As above.
        #[inline(always)]
        pub unsafe fn $swap(at: *mut $t, old: $t, new: $t) -> bool {
            // SAFETY: the caller's.
            unsafe { atomic_cxchg::<$t, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new).1 }
        }
    };
}

atomics!(add32, swap32, u32);
atomics!(add64, swap64, u64);
