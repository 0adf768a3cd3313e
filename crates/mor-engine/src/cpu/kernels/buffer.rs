//! Large memory for weights.
//!
//! Memory that the system maps is zero until it is written, so that several threads can fill it at the same time, and
//! large pages make reading it faster.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};

use half::f16;

use super::lanes::{HalfLanes, Lanes, Line, QUAD};
use super::simd::LANES;

/// Elements for which all bits zero is a value.
///
/// # Safety
/// A value of which every bit is zero must be a valid one, and equal [`Self::ZERO`]; and no alignment may be above that of
/// a page. [`Buffer`] gives out memory that the system has filled with zeros as a slice of them.
pub(crate) unsafe trait Zero: Copy {
    const ZERO: Self;
}

// Of benchmarks, which the browser does without.
// SAFETY: 0.0 has no bit set.
#[cfg(not(target_arch = "wasm32"))]
unsafe impl Zero for f32 {
    const ZERO: Self = 0.0;
}

// SAFETY: an array of f32 and nothing else, of which 0.0 has no bit set; aligned to 64 bytes.
unsafe impl Zero for Lanes {
    const ZERO: Self = Self([0.0; LANES]);
}

// SAFETY: an array of f16 and nothing else, of which zero has no bit set; aligned to 32 bytes.
unsafe impl Zero for HalfLanes {
    const ZERO: Self = Self([f16::ZERO; LANES]);
}

// SAFETY: an array of bytes and nothing else; aligned to 64 bytes.
unsafe impl Zero for Line {
    const ZERO: Self = Self([0; LANES * QUAD]);
}

/// A slice of its own.
pub(crate) struct Buffer<T> {
    memory: Memory<T>,
    len: usize,
}

enum Memory<T> {
    #[cfg(all(unix, feature = "fs"))]
    Mapped(memmap2::MmapMut),
    Heap(Vec<T>),
}

impl<T: Zero> Buffer<T> {
    /// `len` zeros.
    pub(crate) fn new(len: usize) -> Self {
        #[cfg(all(unix, feature = "fs"))]
        if let Some(bytes) = len.checked_mul(size_of::<T>()).filter(|n| *n >= LARGE)
            && let Ok(memory) = memmap2::MmapMut::map_anon(bytes)
        {
            // Advice: a system that does not know large pages refuses.
            #[cfg(target_os = "linux")]
            let _ = memory.advise(memmap2::Advice::HugePage);
            let memory = Memory::Mapped(memory);
            return Self { memory, len };
        }
        let memory = Memory::Heap(vec![T::ZERO; len]);
        Self { memory, len }
    }
}

/// Bytes from which on memory is mapped: less would waste much of a page.
#[cfg(all(unix, feature = "fs"))]
const LARGE: usize = 64 << 10;

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            // SAFETY: pages are aligned better than any `T`, the map has room for `len` of them, and they were zero or
            // have been written as `T`.
            #[cfg(all(unix, feature = "fs"))]
            Memory::Mapped(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast(), self.len)
            },
            Memory::Heap(values) => &values[..self.len],
        }
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            // SAFETY: as above, and the map is borrowed mutably.
            #[cfg(all(unix, feature = "fs"))]
            Memory::Mapped(map) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), self.len)
            },
            Memory::Heap(values) => &mut values[..self.len],
        }
    }
}
