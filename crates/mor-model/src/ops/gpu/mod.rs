//! Attention, layer norm, rotary positions and routing on a GPU, over the WGSL of `mor-shaders`.

mod kernels;
mod launch;
mod layer_norm;
mod rotary;
mod update;

pub(crate) use launch::{set_variant, variant};
pub(super) use update::UpdateOps;
