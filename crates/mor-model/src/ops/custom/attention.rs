//! Attention, recorded for its backward pass.

use std::fmt;

use burn::backend::Autodiff;
use burn::backend::Backend;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{BoolTensor, FloatTensor};

use super::CustomBackend;
use crate::ops::backend::record;

/// What the backward needs: weights are computed again, so nothing of size `[seq, seq]` is kept.
pub(in crate::ops) struct Saved<B: Backend> {
    pub(in crate::ops) q: FloatTensor<B>,
    pub(in crate::ops) k: FloatTensor<B>,
    pub(in crate::ops) v: FloatTensor<B>,
    pub(in crate::ops) key_mask: Option<BoolTensor<B>>,
    pub(in crate::ops) heads: usize,
    pub(in crate::ops) out: FloatTensor<B>,
    /// `[batch, heads, seq]`.
    pub(in crate::ops) logsumexp: FloatTensor<B>,
}

// Derived, these would ask the same of the backend.
impl<B: Backend> Clone for Saved<B> {
    fn clone(&self) -> Self {
        Self {
            q: self.q.clone(),
            k: self.k.clone(),
            v: self.v.clone(),
            key_mask: self.key_mask.clone(),
            heads: self.heads,
            out: self.out.clone(),
            logsumexp: self.logsumexp.clone(),
        }
    }
}

impl<B: Backend> fmt::Debug for Saved<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").finish_non_exhaustive()
    }
}

pub(super) fn record<B: CustomBackend, C: CheckpointStrategy>(
    q: FloatTensor<Autodiff<B>>,
    k: FloatTensor<Autodiff<B>>,
    v: FloatTensor<Autodiff<B>>,
    key_mask: Option<BoolTensor<B>>,
    heads: usize,
) -> FloatTensor<Autodiff<B>> {
    let (q, q_node) = q.into_parts();
    let (k, k_node) = k.into_parts();
    let (v, v_node) = v.into_parts();
    record::record::<B, C, _, _, 3>(AttentionBackward, [q_node, k_node, v_node], || {
        let [q, k, v] = [q, k, v].map(B::contiguous);
        let operands = (q.clone(), k.clone(), v.clone());
        let (out, logsumexp) = B::attention_forward(q, k, v, key_mask.clone(), heads);
        let (q, k, v) = operands;
        let saved = Saved::<B> {
            q,
            k,
            v,
            key_mask,
            heads,
            out: out.clone(),
            logsumexp,
        };
        (out, saved)
    })
}

/// Parents: queries, keys, values.
#[derive(Debug)]
struct AttentionBackward;

impl<B: CustomBackend> Backward<B, 3> for AttentionBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = B::contiguous(grads.consume::<B>(&ops.node));
        let [dq, dk, dv] = B::attention_backward(ops.state.clone(), d_out);
        record::register::<B, _, 3>(&ops, grads, 0, || dq);
        record::register::<B, _, 3>(&ops, grads, 1, || dk);
        record::register::<B, _, 3>(&ops, grads, 2, || dv);
    }
}
