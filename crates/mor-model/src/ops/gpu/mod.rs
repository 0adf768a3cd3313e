//! Attention, layer norm, rotary positions, biases, GELU, the rows' cross-entropy, routing and what optimizers do on a
//! GPU, over the WGSL of `mor-shaders`.

mod bias;
mod extension;
mod gelu;
mod row_losses;
mod update;

pub(super) use extension::{linear, linear_cross_entropy_losses, linear_gelu};
pub(super) use update::UpdateOps;
