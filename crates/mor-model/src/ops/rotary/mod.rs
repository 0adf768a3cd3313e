//! Rotary positions: each head's vector, turned pair by pair by an angle that grows with its position.

mod autodiff;
pub(super) mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod positions;

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::backend::has_kernels;
use autodiff::RotaryOps;
pub use positions::Positions;

/// Rotates each head of `x: [batch, seq, dim]` by its position: the pair `(i, i + head_dim / 2)` of position `p` by
/// the angle `p · base^(-2i / head_dim)`. Positions count from 0, unless `positions` says otherwise.
pub fn rotary(
    x: Tensor<3>,
    heads: usize,
    base: f32,
    positions: Option<&Arc<Positions>>,
) -> Tensor<3> {
    if has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::custom_rotary(
            x.into_dispatch(),
            heads,
            base,
            positions.cloned(),
        ));
    }
    composed::rotary(
        x,
        heads,
        base,
        positions.map(|positions| positions.values()),
    )
}
