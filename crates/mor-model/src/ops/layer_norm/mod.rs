//! Layer norm, with the addition of a residual branch in the same pass: (x - mean) / √(variance + eps) · gain + bias.

mod autodiff;
pub(super) mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};

use super::backend::has_kernels;
use super::backend::operands::maybe_float;
use autodiff::LayerNormOps;

/// Layer norm of `x`, or of `x + residual`, over the last dimension: `x: [batch, seq, dim]`,
/// `gain` and `bias: [dim]`; `eps` is added to the biased variance.
pub fn layer_norm(
    x: Tensor<3>,
    residual: Option<Tensor<3>>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f32,
) -> Tensor<3> {
    // Where activations are f16, parameters stay f32.
    let full = gain.dtype() == DType::F32 && bias.dtype() == DType::F32;
    if full && has_kernels(&x) {
        return Tensor::from_dispatch(Dispatch::custom_layer_norm(
            x.into_dispatch(),
            maybe_float(residual),
            gain.into_dispatch(),
            bias.into_dispatch(),
            eps,
        ));
    }
    composed::layer_norm(x, residual, gain, bias, eps)
}
