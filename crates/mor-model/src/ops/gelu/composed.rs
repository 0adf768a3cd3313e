//! The exact GELU from Burn's own operations, for any device and precision.

use burn::tensor::Tensor;

use crate::ops::linear::composed::linear;

/// See [`super::linear_gelu`].
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    gelu(linear(x, weight, bias))
}

/// `x · (1 + erf(x / √2)) / 2`, whose gradient autodiff finds: that of Burn's own is the approximate form's.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    let twice = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * twice * 0.5
}
