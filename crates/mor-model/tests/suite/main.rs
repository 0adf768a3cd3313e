//! This crate's integration tests as one program: each program would link Burn anew, which takes time and
//! disk space.

mod causality;
mod common;
mod fused;
mod goldens;
mod goldens_conversational;
#[cfg(feature = "gpu")]
mod gpu_bias;
#[cfg(feature = "gpu")]
mod gpu_gelu_and_losses;
#[cfg(feature = "gpu")]
mod gpu_layer_norm;
#[cfg(feature = "gpu")]
mod gpu_ops;
#[cfg(feature = "gpu")]
mod gpu_rotary;
#[cfg(feature = "gpu")]
mod gpu_routers;
#[cfg(feature = "gpu")]
mod gpu_update;
mod recursive;
mod reference;
mod robustness;
