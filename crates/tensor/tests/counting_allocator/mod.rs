//! Counting allocator: the system's allocator that counts large allocations, for tests that a step makes none. Tests of
//! other crates include this file by its path.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Counts allocations of at least `LARGE` bytes, of all threads. To be declared as the `#[global_allocator]`.
pub(crate) struct CountingAllocator<const LARGE: usize>;

/// Large allocations so far.
pub(crate) fn large_allocations() -> usize {
    COUNT.load(Ordering::SeqCst)
}

impl<const LARGE: usize> CountingAllocator<LARGE> {
    fn count(layout: Layout) {
        if layout.size() >= LARGE {
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl<const LARGE: usize> GlobalAlloc for CountingAllocator<LARGE> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
