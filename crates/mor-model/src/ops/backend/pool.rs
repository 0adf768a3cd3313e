//! Buffers that go back into a pool when their tensor is dropped.
//!
//! A training step needs the same few hundred large buffers as the step before. Fresh ones would
//! cost a fifth of the time: the system clears every page it hands out. A pooled buffer always
//! holds initialised numbers, if old ones, so kernels that overwrite it need no clearing either.
#![allow(unsafe_code)] // the tensor library's interface to foreign memory

use std::collections::HashMap;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

/// Buffers smaller than this are cheap to allocate.
const SMALLEST: usize = 16 * 1024;
/// Numbers the pool keeps at most: 4 GiB.
const MOST: usize = 1 << 30;

#[derive(Default)]
struct Pool {
    /// Free buffers by length, which is always a size class.
    free: HashMap<usize, Vec<Vec<f32>>>,
    /// Sum of their lengths.
    held: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

/// Rounds up to one of eight sizes per power of two, so that batches of slightly different
/// lengths share their buffers.
fn size_class(len: usize) -> usize {
    let granule = (len.next_power_of_two() / 16).max(1);
    len.next_multiple_of(granule)
}

/// Memory for `len` numbers that a kernel will overwrite; what it holds before is arbitrary.
pub(crate) struct Buffer {
    /// As long as its size class, or as `len` where that is small.
    memory: Vec<f32>,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        if len < SMALLEST {
            return Self {
                memory: vec![0.0; len],
                len,
            };
        }
        let class = size_class(len);
        // A poisoned lock guards plain memory, which no panic can leave half-changed.
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let recycled = pool.free.get_mut(&class).and_then(Vec::pop);
        if recycled.is_some() {
            pool.held -= class;
        }
        drop(pool);
        Self {
            memory: recycled.unwrap_or_else(|| vec![0.0; class]),
            len,
        }
    }

    /// As [`Self::new`], filled with zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    /// The memory as the tensor library keeps it; dropping that gives it back to the pool.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        let len = self.len * size_of::<f32>();
        let controller = PooledMemory {
            memory: std::mem::take(&mut self.memory),
        };
        // SAFETY: the controller holds at least `len` bytes, all of them initialised.
        unsafe { Bytes::from_controller(Box::new(controller), len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.memory));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

/// Gives a vector that was a pooled tensor's memory back to the pool; frees any other.
pub(crate) fn reclaim(mut values: Vec<f32>) {
    let class = size_class(values.len());
    if values.capacity() == class {
        values.resize(class, 0.0);
        recycle(values);
    }
}

/// Puts memory of a size class back; frees any other.
fn recycle(memory: Vec<f32>) {
    let class = memory.len();
    if class < SMALLEST || class != size_class(class) {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.held + class <= MOST {
        pool.held += class;
        pool.free.entry(class).or_default().push(memory);
    }
}

/// Hands a buffer's memory to the tensor library.
struct PooledMemory {
    memory: Vec<f32>,
}

impl Drop for PooledMemory {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.memory));
    }
}

impl AllocationController for PooledMemory {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Native
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory);
        let len = bytes.len();
        // SAFETY: the same memory and lifetime; the caller promises to write only initialised
        // bytes.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.memory);
        // SAFETY: the same memory and lifetime; initialised bytes are valid as maybe-initialised.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Lets a gradient become a vector without a copy.
    fn try_detach(&mut self) -> Option<NonNull<u8>> {
        // The receiver will free as many bytes as `memory` shows.
        if self.memory.capacity() != self.memory.len() {
            return None;
        }
        let mut memory = ManuallyDrop::new(std::mem::take(&mut self.memory));
        NonNull::new(memory.as_mut_ptr().cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_little() {
        for len in [16_384, 16_385, 100_000, 1_572_864, 4_194_303] {
            let class = size_class(len);
            assert!(class >= len && class <= len + len / 8, "{len}: {class}");
            assert_eq!(class, size_class(class));
        }
    }

    #[test]
    fn memory_comes_back_and_detaches() {
        // A length no other test uses, so that nobody else takes the buffer meanwhile.
        let len = 123_457;
        let mut first = Buffer::new(len);
        first.fill(7.0);
        let at = first.as_ptr();
        drop(first.into_bytes());
        let second = Buffer::new(len - 1);
        assert_eq!(second.as_ptr(), at);
        assert!(second.iter().all(|value| *value == 7.0));
        let values = second.into_bytes().try_into_vec::<f32>();
        let values = values.expect("no copy needed");
        assert_eq!((values.len(), values.as_ptr()), (len - 1, at));
        reclaim(values);
        let third = Buffer::zeroed(len);
        assert_eq!(third.as_ptr(), at);
        assert!(third.iter().all(|value| *value == 0.0));
    }
}
