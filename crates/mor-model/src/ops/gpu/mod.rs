//! Attention, routing, GELU and the rows' cross-entropy on a GPU, over the WGSL of `mor-shaders`.

mod extension;
mod gelu;
mod kernels;
mod launch;
mod row_losses;

pub(super) use extension::{linear_cross_entropy_losses, linear_gelu};
pub(crate) use launch::{set_variant, variant};
