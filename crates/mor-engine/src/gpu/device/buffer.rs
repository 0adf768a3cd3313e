//! Memory on a GPU.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::open::Gpu;
use crate::{EngineError, Result};

/// What offsets of bindings are multiples of, on every adapter: elements of 4 bytes.
pub(crate) const ALIGN: usize = 64;

/// Bytes that may wait to be written, 64 MiB: all weights at once would take their memory twice.
const MOST_WAITING: usize = 1 << 26;

/// Rounds a number of elements up to where a binding can begin.
pub(crate) fn stride(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// A buffer that goes with its last user. In browsers wgpu would leave that to JavaScript's garbage collector, which
/// does not see how large it is. Work that was handed over before is still done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Buffer(Arc<Owned>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Owned(wgpu::Buffer);

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// A part of a buffer that a kernel is given.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) buffer: Buffer,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) size: u64,
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        (&self.buffer, self.offset, self.size) == (&other.buffer, other.offset, other.size)
    }
}

impl Eq for Slice {}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.buffer, self.offset, self.size).hash(state);
    }
}

impl Slice {
    /// Elements of 4 bytes from `start` on, which is a multiple of [`ALIGN`].
    pub(crate) fn from(&self, start: usize) -> Self {
        let bytes = start as u64 * 4;
        Self {
            buffer: self.buffer.clone(),
            offset: self.offset + bytes,
            size: self.size.saturating_sub(bytes),
        }
    }

    /// The first `len` elements of 4 bytes.
    pub(crate) fn first(&self, len: usize) -> Self {
        Self {
            buffer: self.buffer.clone(),
            offset: self.offset,
            size: self.size.min(len as u64 * 4),
        }
    }

    pub(crate) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.size),
        })
    }
}

/// What kernels work in.
pub(crate) const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_DST)
    .union(wgpu::BufferUsages::COPY_SRC);

impl Gpu {
    /// Checks that a buffer may have `bytes` bytes: before what is to fill it is made.
    ///
    /// # Errors
    /// [`EngineError::GpuLimit`].
    pub(crate) fn fits(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<()> {
        let limit = match usage.contains(wgpu::BufferUsages::STORAGE) {
            true => self
                .limits
                .max_buffer_size
                .min(self.limits.max_storage_buffer_binding_size),
            false => self.limits.max_buffer_size,
        };
        match bytes > limit {
            true => Err(EngineError::GpuLimit {
                adapter: self.description().to_string(),
                what: format!("a buffer for {what}, in bytes,"),
                needed: bytes,
                limit,
                remedy: "use --dtype f16 or q8 for smaller weights, a shorter context, or the CPU",
            }),
            false => Ok(()),
        }
    }

    /// A zeroed buffer of `bytes` bytes. Whether there was room for it says [`Self::check`], as some drivers only tell
    /// later.
    ///
    /// # Errors
    /// [`EngineError::GpuLimit`].
    pub(crate) fn buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer> {
        let bytes = bytes.max(256).next_multiple_of(4);
        self.fits(what, bytes, usage)?;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        Ok(Buffer(Arc::new(Owned(buffer))))
    }

    /// A zeroed storage buffer of `elements` elements of 4 bytes.
    ///
    /// # Errors
    /// As for [`Self::buffer`].
    pub(crate) fn storage(&self, what: &str, elements: usize) -> Result<Slice> {
        let bytes = (elements as u64).saturating_mul(4);
        let buffer = self.buffer(what, bytes, STORAGE)?;
        let size = buffer.size();
        Ok(Slice {
            buffer,
            offset: 0,
            size,
        })
    }

    /// A storage buffer with `bytes`, a multiple of 4 of them.
    ///
    /// # Errors
    /// As for [`Self::buffer`] and [`Self::wait`].
    pub(crate) fn upload(&self, what: &str, bytes: &[u8]) -> Result<Slice> {
        let slice = self.storage(what, bytes.len() / 4)?;
        self.queue.write_buffer(&slice.buffer, 0, bytes);
        // What is written waits in memory of its own for the next submit.
        if self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.store(0, Ordering::Relaxed);
            self.queue.submit([]);
            self.wait()?;
        }
        Ok(slice)
    }

    /// Runs `make` and says whether there was room for what it made. Where there was not, the device works on with what
    /// it held before.
    ///
    /// # Errors
    /// Those of `make`, [`EngineError::GpuOutOfMemory`], or as [`Self::check`].
    pub(crate) async fn allocate<T>(
        &self,
        what: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let full = || EngineError::GpuOutOfMemory {
            what: what.to_owned(),
        };
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = make();
        if scope.pop().await.is_some() {
            drop(made);
            // Writing to a buffer that is not there is an error too.
            self.forget_error();
            // With this the driver lets go of what was written.
            self.queue.submit([]);
            return Err(full());
        }
        match self.check() {
            Ok(()) => made,
            Err(EngineError::GpuOutOfMemory { .. }) => Err(full()),
            Err(other) => Err(other),
        }
    }
}
