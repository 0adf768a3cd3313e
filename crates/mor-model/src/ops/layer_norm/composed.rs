//! Layer norm from Burn's own operations, for any device and precision.

use burn::tensor::{FloatDType, Tensor};

use crate::ops::backend::operands::stored_as;

/// See [`super::layer_norm`].
pub fn layer_norm(
    x: Tensor<3>,
    residual: Option<Tensor<3>>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f32,
) -> Tensor<3> {
    let x = match residual {
        Some(residual) => x + residual,
        None => x,
    };
    // Squares would soon leave the range of f16.
    let dtype = x.dtype();
    let x = x.cast(FloatDType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normal = (centred / (variance + eps).sqrt()).cast(dtype);
    normal * stored_as(gain, dtype).unsqueeze() + stored_as(bias, dtype).unsqueeze()
}
