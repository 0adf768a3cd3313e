//! Causal multi-head self-attention.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bool, Tensor};
use mor_kernels::MatmulPrecision;

use crate::Linear;
use crate::ops::{self, Positions};

/// `w_o(softmax(q · kᵀ / √head_dim) · v)`, each position seeing itself and the kept ones before it.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, `[dim, dim]`, no bias.
    pub w_q: Linear,
    /// Keys, `[dim, dim]`, no bias.
    pub w_k: Linear,
    /// Values, `[dim, dim]`, no bias.
    pub w_v: Linear,
    /// Output projection, `[dim, dim]`; with a bias in the technical model.
    pub w_o: Linear,
    /// Number of heads, side by side in the last dimension.
    pub heads: usize,
    /// Base of the rotary angles, for models with rotary positions.
    #[module(skip)]
    pub rope_theta: Option<f32>,
}

impl Attention {
    /// `x: [batch, seq, dim]` to the same shape. `key_mask: [batch, seq]` is true at the keys that
    /// may be seen; without one, all may. A position that sees no key gets zeros, and the bias
    /// of `w_o`. `positions`, one for each of the `batch · seq` vectors, says where they are when others were left out;
    /// `matmul` is as in [`ops::linear()`].
    pub fn forward(
        &self,
        x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        positions: Option<&Arc<Positions>>,
        matmul: MatmulPrecision,
    ) -> Tensor<3> {
        self.forward_with(x, positions, matmul, |q, k, v| {
            ops::causal_attention(q, k, v, key_mask.cloned(), self.heads)
        })
    }

    /// As [`Self::forward`], where `attend` mixes values for queries, given queries, keys and values.
    pub(crate) fn forward_with(
        &self,
        x: Tensor<3>,
        positions: Option<&Arc<Positions>>,
        matmul: MatmulPrecision,
        attend: impl FnOnce(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let mut q = self.w_q.forward(x.clone(), matmul);
        let mut k = self.w_k.forward(x.clone(), matmul);
        let v = self.w_v.forward(x, matmul);
        if let Some(base) = self.rope_theta {
            q = ops::rotary(q, self.heads, base, positions);
            k = ops::rotary(k, self.heads, base, positions);
        }
        self.w_o.forward(attend(q, k, v), matmul)
    }
}
