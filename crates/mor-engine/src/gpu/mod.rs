//! Decoding on a GPU, through wgpu and the WGSL of `shaders/`.
//!
//! - [`Gpu`]: an open device.
//! - [`GpuModel`]: weights, uploaded once and shared.
//! - [`GpuDecoder`]: a context that grows token by token, as [`crate::Decoder`] does on the CPU.
//!
//! Caches of keys and values stay on the GPU. A decoded token is one submit, and one read-back of a few bytes: the
//! next token is chosen on the GPU, and where depth is decided from what is known by then, it is decided and obeyed
//! there too, by dispatches whose sizes the router writes.

mod device;
mod plan;
mod run;
mod weights;

pub use device::{AdapterDescription, Counters, Gpu};
#[cfg(not(target_arch = "wasm32"))]
pub use device::{Capabilities, TrialParams, adapters, capabilities, run_shader};
pub use mor_shaders::{Replacement, VARIANT_VARIABLE, Variant, may_have_hardware};
pub use run::GpuDecoder;
#[cfg(not(target_arch = "wasm32"))]
pub use run::bench;
pub use weights::GpuModel;
