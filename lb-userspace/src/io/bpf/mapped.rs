//! Array maps whose words packets read while user space writes them.
//!
//! An update by system call copies the value with `memcpy`, which does not promise that an aligned word is stored whole.
//! A mapping of the map's memory and an atomic store does. Only 64-bit words, and only arrays created with
//! `BPF_F_MMAPABLE`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// An array map's memory as words.
pub(super) struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: nothing but atomics behind the pointer, and the mapping lives as long as the value.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the first `len` words of an array. The kernel refuses more than the array has, rounded up to a page.
    pub(super) fn map(fd: BorrowedFd<'_>, len: NonZeroUsize) -> io::Result<Self> {
        let bytes = len.saturating_mul(NonZeroUsize::new(size_of::<u64>()).expect("eight bytes"));
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { start: start.cast(), len: len.get() })
    }

    /// Stores one word: a packet that sees it also sees all that was written to maps before. Panics beyond the end.
    pub(super) fn store(&self, index: usize, word: u64) {
        self.word(index).store(word, Ordering::Release);
    }

    /// One word. Panics beyond the end.
    pub(super) fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "word {index} of {}", self.len);
        // SAFETY: within the mapping, which is aligned to a page; the kernel's side reads and writes whole words.
        unsafe { self.start.add(index).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives this value. It was mapped, so it can be unmapped.
        let _ = unsafe { munmap(self.start.cast(), self.len * size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use aya::maps::{Array, IterableMap as _, MapData};

    use super::*;

    const MAPPABLE: u32 = 1 << 10;

    #[test]
    fn words_are_the_maps_own() {
        let mut map = Array::<MapData, u64>::create(700, MAPPABLE).expect("needs root");
        let words = Words::map(map.map().fd().as_fd(), NonZeroUsize::new(700).unwrap()).unwrap();
        words.store(699, 0x0123_4567_89ab_cdef);
        assert_eq!(map.get(&699, 0).unwrap(), 0x0123_4567_89ab_cdef);
        map.set(0, 7, 0).unwrap();
        assert_eq!((words.load(0), words.load(1)), (7, 0));
        assert!(std::panic::catch_unwind(|| words.load(700)).is_err());
    }

    #[test]
    fn map_without_the_flag_is_refused() {
        let map = Array::<MapData, u64>::create(8, 0).expect("needs root");
        assert!(Words::map(map.map().fd().as_fd(), NonZeroUsize::new(8).unwrap()).is_err());
    }
}
