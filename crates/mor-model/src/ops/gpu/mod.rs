//! Attention and routing on a GPU, over the WGSL of `mor-shaders`.

mod kernels;
mod launch;

pub(crate) use launch::{set_variant, variant};
