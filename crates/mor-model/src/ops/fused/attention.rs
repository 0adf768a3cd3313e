//! Causal attention on heads that lie side by side, so that nothing is transposed.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::{AttentionShape, causal_attention_backward, causal_attention_forward};

use super::buffers::{buffer, contiguous, dims, flags, floats, tensor};
use super::register;

/// What the backward needs.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    shape: AttentionShape,
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    key_mask: Option<Vec<bool>>,
    out: FlexTensor,
    /// Of each head's scores at each position, `[batch, heads, seq]`.
    logsumexp: FlexTensor,
}

/// The sizes behind `x: [batch, seq, heads · head_dim]`.
pub(super) fn attention_shape(x: &FlexTensor, heads: usize) -> AttentionShape {
    let (batch, seq, dim) = match dims(x).as_slice() {
        &[batch, seq, dim] => (batch, seq, dim),
        _ => (0, 0, 0),
    };
    AttentionShape {
        batch,
        seq,
        heads,
        head_dim: dim / heads,
    }
}

pub(super) fn forward(
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    key_mask: Option<FlexTensor>,
    heads: usize,
) -> (FlexTensor, Saved) {
    let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
    let key_mask = key_mask.map(flags);
    let shape = attention_shape(&q, heads);
    let mut out = buffer(floats(&q).len());
    let mut logsumexp = buffer(shape.batch * heads * shape.seq);
    causal_attention_forward(
        shape,
        floats(&q),
        floats(&k),
        floats(&v),
        key_mask.as_deref(),
        &mut out,
        &mut logsumexp,
    );
    let out = tensor(out, &dims(&q));
    let saved = Saved {
        shape,
        q,
        k,
        v,
        key_mask,
        out: out.clone(),
        logsumexp: tensor(logsumexp, &[shape.batch, heads, shape.seq]),
    };
    (out, saved)
}

/// Parents: queries, keys, values.
#[derive(Debug)]
pub(super) struct AttentionBackward;

impl Backward<Flex, 3> for AttentionBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let saved = &ops.state;
        let len = floats(&saved.q).len();
        let (mut dq, mut dk, mut dv) = (buffer(len), buffer(len), buffer(len));
        causal_attention_backward(
            saved.shape,
            floats(&saved.q),
            floats(&saved.k),
            floats(&saved.v),
            saved.key_mask.as_deref(),
            floats(&saved.out),
            floats(&saved.logsumexp),
            floats(&d_out),
            &mut dq,
            &mut dk,
            &mut dv,
        );
        let shape = dims(&saved.q);
        register(&ops, grads, 0, || tensor(dq, &shape));
        register(&ops, grads, 1, || tensor(dk, &shape));
        register(&ops, grads, 2, || tensor(dv, &shape));
    }
}
