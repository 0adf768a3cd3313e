//! Decoding on a GPU, through wgpu and the WGSL of `shaders/`.
//!
//! - [`Gpu`]: an open device.
//! - [`GpuModel`]: weights, uploaded once and shared.
//! - [`GpuDecoder`]: a context that grows token by token, as [`crate::Decoder`] does on the CPU.
//!
//! Caches of keys and values stay on the GPU. A decoded token is one submit, and one read-back of a few bytes: the
//! next token is chosen on the GPU, and where depth is decided from what is known by then, it is decided and obeyed
//! there too, by dispatches whose sizes the router writes.

mod adapter;
#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
mod block;
mod buffer;
mod buffers;
#[cfg(not(target_arch = "wasm32"))]
mod capabilities;
mod choose;
mod decode;
mod decoder;
mod grow;
mod limits;
mod live;
mod model;
mod pipeline;
mod pipelines;
mod prefill;
mod programs;
mod record;
mod rounds;
#[cfg(test)]
mod tests;
#[cfg(not(target_arch = "wasm32"))]
mod trial;
mod upload;
mod wait;

#[cfg(not(target_arch = "wasm32"))]
pub use adapter::adapters;
pub use adapter::{AdapterDescription, Gpu};
#[cfg(not(target_arch = "wasm32"))]
pub use capabilities::{Capabilities, capabilities};
pub use decoder::GpuDecoder;
pub use model::GpuModel;
pub use mor_shaders::{Replacement, VARIANT_VARIABLE, Variant, may_have_hardware};
#[cfg(not(target_arch = "wasm32"))]
pub use trial::{TrialParams, run_shader};

/// What a decoder asked of its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Kernels launched, without those whose dispatch turned out to be empty, and without those of selected rows of a
    /// prompt, whose number stays on the GPU.
    pub launches: u64,
    /// Command buffers handed over.
    pub submits: u64,
    /// Results waited for.
    pub readbacks: u64,
    /// Bytes of what launches only read, each of them once per launch: weights, rows, and caches up to the last position.
    /// Where a prompt's rows are read at once, buffers count whole, and steps of selected rows not at all.
    pub bytes_read: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            launches: self.launches + more.launches,
            submits: self.submits + more.submits,
            readbacks: self.readbacks + more.readbacks,
            bytes_read: self.bytes_read + more.bytes_read,
        }
    }
}

impl std::ops::Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            launches: self.launches - before.launches,
            submits: self.submits - before.submits,
            readbacks: self.readbacks - before.readbacks,
            bytes_read: self.bytes_read - before.bytes_read,
        }
    }
}
