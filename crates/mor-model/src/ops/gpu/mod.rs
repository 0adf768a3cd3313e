//! Attention, layer norm, rotary positions and routing on a GPU, over the WGSL of `mor-shaders`.

mod kernels;
mod launch;
mod layer_norm;
mod rotary;

pub(crate) use launch::{set_variant, variant};
