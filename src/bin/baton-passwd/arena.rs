//! An allocator that hands out static memory from front to back and never takes it back.
//!
//! The probe needs no other memory, which saves it seven system calls and a third of its instructions. The
//! daemon uses the system's allocator once the static memory is used up.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of static memory: somewhat more than a probe asks for.
const SIZE: usize = 8 * 1024;

/// The fields are in this order so that `used` lies in the first page that is handed out, and needs no page
/// of its own.
#[repr(C)]
pub(crate) struct Arena {
    /// How much of the space is handed out. It only grows.
    used: AtomicUsize,
    space: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: `used` gives every caller a piece of `space` of its own. No other code reads or writes that
// piece.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Arena {
        Arena { used: AtomicUsize::new(0), space: UnsafeCell::new([0; SIZE]) }
    }

    /// Takes a piece of that layout, and returns where in the space it starts. `None` if there is no room.
    fn take(&self, layout: Layout) -> Option<usize> {
        let base = self.space.get().addr();
        let used = self.used.load(Ordering::Relaxed);
        // The next multiple of a power of two. Nothing here overflows: a layout is at most isize::MAX.
        let start = ((base + used + layout.align() - 1) & !(layout.align() - 1)) - base;
        let end = start + layout.size();
        if end > SIZE {
            return None;
        }
        // Another thread was first. That is rare, so this piece may come from the system's allocator.
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
    fn pieces_are_aligned_and_do_not_overlap_until_the_system_takes_over() {
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
