//! The feed-forward network of a layer.

use burn::module::Module;
use burn::tensor::Tensor;

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
    /// `x: [batch, seq, dim]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.linear2.forward(self.linear1.forward_gelu(x))
    }
}
