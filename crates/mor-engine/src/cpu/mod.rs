//! The CPU: its threads and kernels, weights packed for these, and contexts that are decoded with them.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod bench;
pub(crate) mod kernels;
mod pool;
mod run;
mod sampler;
mod weights;

pub(crate) use kernels::Kernels;
pub use run::Decoder;
pub use sampler::Sampler;
pub use weights::{LoadOptions, Model};
