//! This crate's integration tests as one program: each program would link wgpu anew, which takes time and
//! disk space.

mod causality;
mod chat;
mod common;
mod finite;
mod generation;
mod goldens_conversational;
mod goldens_technical;
#[cfg(feature = "gpu")]
mod gpu_agreement;
#[cfg(feature = "gpu")]
mod gpu_ahead;
#[cfg(feature = "gpu")]
mod gpu_costs;
#[cfg(feature = "gpu")]
mod gpu_goldens;
#[cfg(feature = "gpu")]
mod gpu_shipped;
mod probe;
mod quantization;
mod recursive;
mod reference;
mod replacement;
mod robustness;
