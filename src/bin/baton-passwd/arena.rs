//! Memory for the first few kilobytes of the process' life: a piece of the program itself, handed out
//! from front to back and never taken back.
//!
//! The probe needs no other, and is spared seven system calls and a third of its instructions. The
//! daemon goes on with the system's allocator once it is used up.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes: somewhat more than a probe asks for.
const SIZE: usize = 8 * 1024;

/// In this order, so that the count lies in the first page that is handed out, and takes none of its own.
#[repr(C)]
pub(crate) struct Arena {
    /// How much of the space is handed out; only ever grows.
    used: AtomicUsize,
    space: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: `used` gives every caller a piece of `space` that nobody else gets; nobody else reads or
// writes it.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Arena {
        Arena { used: AtomicUsize::new(0), space: UnsafeCell::new([0; SIZE]) }
    }

    /// Where in the space a piece of that layout starts, if there still is room for it.
    fn take(&self, layout: Layout) -> Option<usize> {
        let base = self.space.get().addr();
        let used = self.used.load(Ordering::Relaxed);
        // The next multiple of a power of two. Nothing here overflows: a layout is at most isize::MAX.
        let start = ((base + used + layout.align() - 1) & !(layout.align() - 1)) - base;
        let end = start + layout.size();
        if end > SIZE {
            return None;
        }
        // Somebody else was first: rare enough to leave that one to the system's allocator.
        self.used.compare_exchange(used, end, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(start)
    }
}

// SAFETY: pieces have the size and alignment that was asked for, do not overlap, and stay where they are.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            // SAFETY: `take` returns places inside the space, its end included only for size 0.
            Some(start) => unsafe { self.space.get().cast::<u8>().add(start) },
            // SAFETY: the caller keeps the same promises for `layout`.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let ours = pointer.addr().wrapping_sub(self.space.get().addr()) < SIZE;
        if !ours {
            // SAFETY: what is not from the space is from the system's allocator.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_apart_and_then_the_systems() {
        static ARENA: Arena = Arena::new();
        let inside = |pointer: *mut u8| pointer.addr().wrapping_sub(ARENA.space.get().addr()) < SIZE;
        let mut before = ARENA.space.get().addr();
        let mut count = 0;
        for align in [1, 8, 2, 64, 16].into_iter().cycle() {
            let layout = Layout::from_size_align(100, align).unwrap();
            // SAFETY: the layout has a size; what is written is what was asked for, and given back as that.
            let pointer = unsafe { ARENA.alloc(layout) };
            assert!(!pointer.is_null() && pointer.addr() % align == 0);
            // SAFETY: as above.
            unsafe { pointer.write_bytes(0xff, 100) };
            let ours = inside(pointer);
            // SAFETY: as above.
            unsafe { ARENA.dealloc(pointer, layout) };
            if !ours {
                break;
            }
            assert!(pointer.addr() >= before, "it overlaps with the one before");
            before = pointer.addr() + 100;
            count += 1;
        }
        assert!(count >= SIZE / 164, "{count}");
        assert_eq!(ARENA.take(Layout::from_size_align(isize::MAX as usize, 1).unwrap()), None);
    }
}
