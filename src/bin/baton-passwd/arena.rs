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
        self.move_end(used, end).then_some(start)
    }

    /// Resizes the piece at `start` in place, which works only for the last one. Returns whether it did.
    fn resize_last(&self, start: usize, size: usize, new_size: usize) -> bool {
        self.move_end(start + size, start + new_size)
    }

    /// Changes how much is handed out, if it is still `used` and there is room. Another thread may be first.
    /// That is rare, so the other request may go to the system's allocator.
    fn move_end(&self, used: usize, end: usize) -> bool {
        end <= SIZE && self.used.compare_exchange(used, end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The place of a piece in the space, or `None` if the piece is the system's.
    fn position(&self, pointer: *mut u8) -> Option<usize> {
        let position = pointer.addr().wrapping_sub(self.space.get().addr());
        (position < SIZE).then_some(position)
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
        if self.position(pointer).is_none() {
            // SAFETY: what is not from the space is from the system's allocator.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(start) = self.position(pointer) else {
            // SAFETY: what is not from the space is from the system's allocator.
            return unsafe { System.realloc(pointer, layout, new_size) };
        };
        if new_size <= layout.size() || self.resize_last(start, layout.size(), new_size) {
            return pointer;
        }
        // SAFETY: the caller promises that the new size makes a valid layout.
        let grown = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !grown.is_null() {
            // SAFETY: both have that many bytes, and the new one does not overlap with any other piece.
            unsafe { pointer.copy_to_nonoverlapping(grown, layout.size()) };
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_do_not_overlap_until_the_system_takes_over() {
        static ARENA: Arena = Arena::new();
        let mut before = ARENA.space.get().addr();
        let mut count = 0;
        for align in [1, 8, 2, 64, 16].into_iter().cycle() {
            let layout = Layout::from_size_align(100, align).unwrap();
            // SAFETY: the layout has a size; what is written is what was asked for, and given back as that.
            let pointer = unsafe { ARENA.alloc(layout) };
            assert!(!pointer.is_null() && pointer.addr() % align == 0);
            // SAFETY: as above.
            unsafe { pointer.write_bytes(0xff, 100) };
            let ours = ARENA.position(pointer).is_some();
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

    /// A piece of that many bytes, filled with one value.
    fn filled(arena: &Arena, size: usize, value: u8) -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the layout has a size, and as much is written.
        let pointer = unsafe { arena.alloc(layout) };
        // SAFETY: as above.
        unsafe { pointer.write_bytes(value, size) };
        (pointer, layout)
    }

    /// Resizes a piece, and checks that it has kept the bytes that it had.
    fn resized(arena: &Arena, (pointer, layout): (*mut u8, Layout), new_size: usize, value: u8) -> *mut u8 {
        // SAFETY: the piece is of that layout and the arena's, and is not used any more.
        let moved = unsafe { arena.realloc(pointer, layout, new_size) };
        let kept = new_size.min(layout.size());
        // SAFETY: as many bytes have been written before.
        let bytes = unsafe { std::slice::from_raw_parts(moved, kept) };
        assert!(bytes.iter().all(|&byte| byte == value), "from {} to {new_size} bytes: {bytes:?}", layout.size());
        moved
    }

    #[test]
    fn the_last_piece_grows_in_place_and_any_other_piece_moves() {
        static ARENA: Arena = Arena::new();
        let first = filled(&ARENA, 100, 1);
        assert_eq!(resized(&ARENA, first, 200, 1), first.0, "the last one moved");
        let first = (first.0, Layout::from_size_align(200, 8).unwrap());
        let second = filled(&ARENA, 100, 2);
        assert!(second.0.addr() >= first.0.addr() + 200, "the second overlaps with the first");

        assert_eq!(resized(&ARENA, first, 50, 1), first.0, "a smaller one moved");
        let first = (first.0, Layout::from_size_align(50, 8).unwrap());
        let moved = resized(&ARENA, first, 300, 1);
        assert!(moved.addr() >= second.0.addr() + 100, "the first grew into the second");
        // SAFETY: that is its size now.
        unsafe { moved.write_bytes(1, 300) };
        assert_eq!(resized(&ARENA, second, 100, 2), second.0);
    }

    #[test]
    fn a_piece_that_outgrows_the_space_moves_to_the_systems_allocator() {
        static ARENA: Arena = Arena::new();
        let small = filled(&ARENA, 100, 3);
        let large = resized(&ARENA, small, SIZE + 1, 3);
        assert_eq!(ARENA.position(large), None, "it does not fit");
        let layout = Layout::from_size_align(SIZE + 1, 8).unwrap();
        // SAFETY: that is its size.
        unsafe { large.write_bytes(4, SIZE + 1) };
        let larger = resized(&ARENA, (large, layout), 64 * SIZE, 4);
        assert_eq!(ARENA.position(larger), None);
        // SAFETY: this is its layout, and it is not used any more.
        unsafe { ARENA.dealloc(larger, Layout::from_size_align(64 * SIZE, 8).unwrap()) };
    }
}
