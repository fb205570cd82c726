//! Counting allocator: the system's allocator that counts allocations, for tests of how many a step makes. Tests of
//! other crates include this file by its path.

#![allow(dead_code, reason = "a test reads the count that it needs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Without a destructor, so that it can be used as long as the thread allocates.
    static OWN: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
}

/// Counts allocations of at least `LARGE` bytes, of all threads. To be declared as the `#[global_allocator]`.
pub(crate) struct CountingAllocator<const LARGE: usize>;

/// How many allocations there were, and how large they were together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocations {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// Large allocations so far.
pub(crate) fn large_allocations() -> usize {
    COUNT.load(Ordering::SeqCst)
}

/// Allocations of this thread so far, of any size.
pub(crate) fn allocations_of_this_thread() -> Allocations {
    OWN.get()
}

impl<const LARGE: usize> CountingAllocator<LARGE> {
    fn count(layout: Layout) {
        if layout.size() >= LARGE {
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
        let Allocations { count, bytes } = OWN.get();
        OWN.set(Allocations { count: count + 1, bytes: bytes + layout.size() as u64 });
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
