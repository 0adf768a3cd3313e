//! Contexts on a GPU: what of them is there, and what is launched to make them grow.

#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
mod bind;
mod buffers;
mod choose;
mod decode;
mod decoder;
mod grow;
mod live;
#[cfg(test)]
mod lost;
mod prefill;
mod step;
#[cfg(test)]
mod tests;

pub use decoder::GpuDecoder;
