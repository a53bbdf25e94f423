//! Memory of a thread: an allocator that counts, to be installed by the program that measures.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting bytes per thread.
pub struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Starts counting anew on this thread.
pub fn start() {
    NOW.set(0);
    PEAK.set(0);
}

/// Most bytes that this thread held at once since [`start`]; 0 where [`Counting`] is not installed.
pub fn peak() -> u64 {
    u64::try_from(PEAK.get()).unwrap_or(0)
}

fn count(bytes: isize) {
    // No destructor: the cells live as long as the thread. Sizes of live blocks add up to less than isize::MAX.
    let now = NOW.get().wrapping_add(bytes);
    NOW.set(now);
    if now > PEAK.get() {
        PEAK.set(now);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches two cells and allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the block came from this allocator, which is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The system may copy: both blocks are there for a moment.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the block came from this allocator, which is the system's.
        unsafe { System.realloc(block, layout, size) }
    }
}
