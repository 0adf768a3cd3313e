//! A block of the conversational and of the recursive model.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bool, Tensor};

use crate::mode::Mode;
use crate::ops::{self, Positions};
use crate::{Attention, FeedForward, LayerNorm};

/// A pre-LN block: `x + attention(ln1(x))`, then `x + feed_forward(ln2(x))`.
#[derive(Module, Debug)]
pub struct Block {
    /// Before the attention.
    pub ln1: LayerNorm,
    /// Self-attention.
    pub attention: Attention,
    /// Before the feed-forward.
    pub ln2: LayerNorm,
    /// Feed-forward network.
    pub feedforward: FeedForward,
    /// Dropout probability.
    pub dropout: f32,
}

impl Block {
    /// `x: [batch, seq, dim]` to the same shape. `key_mask: [batch, seq]` is true at the keys that may be seen;
    /// `positions` as in [`Attention::forward`].
    pub fn forward(
        &self,
        x: Tensor<3>,
        key_mask: Option<&Tensor<2, Bool>>,
        positions: Option<&Arc<Positions>>,
        mode: Mode,
    ) -> Tensor<3> {
        let heads = self.attention.heads;
        self.forward_with(x, positions, mode, |q, k, v| {
            ops::causal_attention(q, k, v, key_mask.cloned(), heads)
        })
    }

    /// As [`Self::forward`], where `attend` mixes values for queries, given queries, keys and values.
    pub(crate) fn forward_with(
        &self,
        x: Tensor<3>,
        positions: Option<&Arc<Positions>>,
        mode: Mode,
        attend: impl FnOnce(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let dropout = |branch| ops::dropout(branch, self.dropout, mode.training);
        let seen = self.ln1.forward(x.clone());
        let attended = self
            .attention
            .forward_with(seen, positions, mode.matmul, attend);
        let x = x + dropout(attended);
        let fed = self
            .feedforward
            .forward(self.ln2.forward(x.clone()), mode.matmul);
        x + dropout(fed)
    }
}
