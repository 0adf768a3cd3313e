//! Attention over the kernels of `mor-kernels`.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use mor_kernels::{causal_attention_backward, causal_attention_forward};

use super::autodiff::{AttentionKernels, Saved};
use crate::ops::backend::cpu::{attention_shape, buffer, dims, flags, floats, tensor};

impl AttentionKernels for Flex {
    fn attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        key_mask: Option<FlexTensor>,
        heads: usize,
    ) -> (FlexTensor, FlexTensor) {
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
        (
            tensor(out, &dims(&q)),
            tensor(logsumexp, &[shape.batch, heads, shape.seq]),
        )
    }

    fn attention_backward(saved: Saved<Self>, d_out: FlexTensor) -> [FlexTensor; 3] {
        let len = floats(&saved.q).len();
        let (mut dq, mut dk, mut dv) = (buffer(len), buffer(len), buffer(len));
        causal_attention_backward(
            attention_shape(&saved.q, saved.heads),
            floats(&saved.q),
            floats(&saved.k),
            floats(&saved.v),
            saved.key_mask.map(flags).as_deref(),
            floats(&saved.out),
            floats(&saved.logsumexp),
            floats(&d_out),
            &mut dq,
            &mut dk,
            &mut dv,
        );
        let shape = dims(&saved.q);
        [dq, dk, dv].map(|values| tensor(values, &shape))
    }
}
