//! Attention as Burn dispatches it, to a device's kernels or recorded for the backward pass; and what a device computes
//! for it.

use std::fmt;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Autodiff, Backend, backend_extension};

use crate::ops::backend::operands::MaybeBool;
use crate::ops::backend::{KernelBackend, record};

/// What a device computes. Float tensors are contiguous.
pub(super) trait AttentionKernels: KernelBackend {
    /// The output, and the logarithm of the summed exponentials of each row's scores, `[batch, heads, seq]`.
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        key_mask: Option<BoolTensor<Self>>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of queries, keys and values, given that of the output.
    fn attention_backward(saved: Saved<Self>, d_out: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

/// What Burn dispatches; arguments and shapes as in [`super::causal_attention`].
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "gpu"))]
pub(super) trait AttentionOps: Backend {
    fn custom_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] key_mask: MaybeBool<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;
}

/// Without autodiff, it is the kernel.
impl<B: AttentionKernels> AttentionOps for B {
    fn custom_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        key_mask: MaybeBool<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let [q, k, v] = [q, k, v].map(Self::contiguous);
        Self::attention_forward(q, k, v, key_mask.given(), heads).0
    }
}

impl<B: AttentionKernels, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn custom_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        key_mask: MaybeBool<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        record::<B, C>(q, k, v, key_mask.given(), heads)
    }
}

/// What the backward needs: weights are computed again, so nothing of size `[seq, seq]` is kept.
pub(super) struct Saved<B: Backend> {
    pub(super) q: FloatTensor<B>,
    pub(super) k: FloatTensor<B>,
    pub(super) v: FloatTensor<B>,
    pub(super) key_mask: Option<BoolTensor<B>>,
    pub(super) heads: usize,
    pub(super) out: FloatTensor<B>,
    /// `[batch, heads, seq]`.
    pub(super) logsumexp: FloatTensor<B>,
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

fn record<B: AttentionKernels, C: CheckpointStrategy>(
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

impl<B: AttentionKernels> Backward<B, 3> for AttentionBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = B::contiguous(grads.consume::<B>(&ops.node));
        let [dq, dk, dv] = B::attention_backward(ops.state.clone(), d_out);
        record::register::<B, _, 3>(&ops, grads, 0, || dq);
        record::register::<B, _, 3>(&ops, grads, 1, || dk);
        record::register::<B, _, 3>(&ops, grads, 2, || dv);
    }
}
