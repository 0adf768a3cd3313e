//! Working memory that each thread keeps, so that no call allocates once the first has.

use std::cell::RefCell;

/// One cache line, for its alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A slot per use, so that kernels that call each other do not share one.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    PackedLeft,
    PackedRight,
    Attention,
    Logits,
    Partial,
}

const SLOTS: usize = 5;

thread_local! {
    static BUFFERS: [RefCell<Vec<Line>>; SLOTS] = const { [const { RefCell::new(Vec::new()) }; SLOTS] };
}

/// Calls `work` with `len` numbers, aligned to a cache line, of unknown content.
pub(crate) fn with_scratch<T>(slot: Slot, len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    // Taken out while in use: a nested use of the same slot (a thread that waits may pick up other
    // work) finds an empty one and allocates, instead of failing.
    let mut lines =
        BUFFERS.with(|buffers| std::mem::take(&mut *buffers[slot as usize].borrow_mut()));
    let count = len.div_ceil(16);
    if lines.len() < count {
        lines.resize(count, Line([0.0; 16]));
    }
    let result = work(&mut as_numbers(&mut lines)[..len]);
    BUFFERS.with(|buffers| *buffers[slot as usize].borrow_mut() = lines);
    result
}

#[allow(unsafe_code)]
fn as_numbers(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: `Line` is `repr(C)` over sixteen numbers, 64 bytes with an alignment of 64, so it has
    // no padding and `lines` is that many numbers in a row.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}
