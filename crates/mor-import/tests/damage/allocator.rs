//! An allocator that records what each thread asks for.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a thread has asked for since [`watch`] began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Bytes allocated and not freed again.
    live: isize,
    /// Most bytes at a time.
    pub(crate) peak: isize,
    /// Bytes of the largest allocation.
    pub(crate) largest: usize,
}

impl Usage {
    /// The worse of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            live: self.live.max(other.live),
            peak: self.peak.max(other.peak),
            largest: self.largest.max(other.largest),
        }
    }
}

thread_local! {
    static USAGE: Cell<Usage> = const { Cell::new(Usage { live: 0, peak: 0, largest: 0 }) };
}

/// Runs `work` and says what it asked for.
pub(crate) fn watch<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    USAGE.set(Usage::default());
    let result = work();
    (result, USAGE.get())
}

fn record(allocated: usize, freed: usize) {
    // A thread that is ending has no counters any more.
    let _ = USAGE.try_with(|usage| {
        let mut now = usage.get();
        now.live += allocated as isize - freed as isize;
        now.peak = now.peak.max(now.live);
        now.largest = now.largest.max(allocated);
        usage.set(now);
    });
}

struct Recording;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Recording {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record(layout.size(), 0);
        // SAFETY: the caller keeps the allocator's contract, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        record(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        record(0, layout.size());
        // SAFETY: as above; all memory came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        record(size, layout.size());
        // SAFETY: as above; all memory came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Recording = Recording;
