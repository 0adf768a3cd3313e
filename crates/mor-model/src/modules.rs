//! The three kinds of parameters: linear layers, layer norms and lookup tables.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use mor_kernels::MatmulPrecision;

use crate::ops;

/// `y = x · weightᵀ + bias`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`, where the layer has one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `[batch, seq, in]` to `[batch, seq, out]`; `matmul` as in [`ops::linear()`].
    pub fn forward(&self, x: Tensor<3>, matmul: MatmulPrecision) -> Tensor<3> {
        let bias = self.bias.as_ref().map(Param::val);
        ops::linear(matmul, x, self.weight.val(), bias)
    }

    /// `gelu(forward(x))` in one operation.
    pub fn forward_gelu(&self, x: Tensor<3>, matmul: MatmulPrecision) -> Tensor<3> {
        let bias = self.bias.as_ref().map(Param::val);
        ops::linear_gelu(matmul, x, self.weight.val(), bias)
    }
}

/// `(x - mean) / √(variance + eps) · weight + bias` over the last dimension, with the biased
/// variance.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Gain, `[dim]`.
    pub weight: Param<Tensor<1>>,
    /// `[dim]`.
    pub bias: Param<Tensor<1>>,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Normalises `x: [batch, seq, dim]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        ops::layer_norm(x, None, self.weight.val(), self.bias.val(), self.eps)
    }

    /// Normalises `x + branch`, both `[batch, seq, dim]`.
    pub fn forward_residual(&self, x: Tensor<3>, branch: Tensor<3>) -> Tensor<3> {
        ops::layer_norm(
            x,
            Some(branch),
            self.weight.val(),
            self.bias.val(),
            self.eps,
        )
    }
}

/// A row of numbers for each id.
#[derive(Module, Debug)]
pub struct Table {
    /// `[entries, dim]`.
    pub weight: Param<Tensor<2>>,
}

impl Table {
    /// The rows of `ids: [batch, seq]`, `[batch, seq, dim]`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        ops::embedding(self.weight.val(), ids)
    }
}
