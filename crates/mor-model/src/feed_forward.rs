//! The feed-forward network of a layer.

use burn::module::Module;
use burn::tensor::Tensor;
use mor_kernels::MatmulPrecision;

use crate::Linear;

/// `linear2(gelu(linear1(x)))` with the exact (erf) GELU; the linear layers have biases in the technical model only.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[hidden, dim]`.
    pub linear1: Linear,
    /// `[dim, hidden]`.
    pub linear2: Linear,
}

impl FeedForward {
    /// `x: [batch, seq, dim]` to the same shape; `matmul` as in [`crate::ops::linear()`].
    pub fn forward(&self, x: Tensor<3>, matmul: MatmulPrecision) -> Tensor<3> {
        let hidden = self.linear1.forward_gelu(x, matmul);
        self.linear2.forward(hidden, matmul)
    }
}
