//! Copies by words. For a plain assignment between places that may overlap the compiler calls a byte-wise `memmove`,
//! which is slow and which the verifier walks byte by byte.

/// Copies a value of the map ABI.
///
/// # Safety
/// Both pointers are valid, aligned to four bytes, and the values do not overlap.
#[inline(always)]
pub unsafe fn copy<T: Copy>(to: *mut T, from: *const T) {
    const { assert!(align_of::<T>() >= 4 && size_of::<T>().is_multiple_of(4)) };
    // Volatile, or the loop is recognised as a copy and becomes a call again.
    if align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8) {
        for i in 0..size_of::<T>() / 8 {
            // SAFETY: the caller's; aligned to eight bytes, as was asked.
            unsafe { to.cast::<u64>().add(i).write_volatile(from.cast::<u64>().add(i).read_volatile()) };
        }
    } else {
        for i in 0..size_of::<T>() / 4 {
            // SAFETY: the caller's.
            unsafe { to.cast::<u32>().add(i).write_volatile(from.cast::<u32>().add(i).read_volatile()) };
        }
    }
}
