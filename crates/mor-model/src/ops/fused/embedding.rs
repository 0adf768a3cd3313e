//! Table lookup.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::embedding_backward;

use crate::ops::backend::cpu::register;
use crate::ops::backend::cpu::{buffer, contiguous, dims, floats, ids, rows_and_width, tensor};
use crate::ops::backend::pool::Buffer;

/// What the backward needs: the ids, and the shape of the table.
type Saved = (Arc<Vec<i64>>, [usize; 2]);

pub(super) fn forward(table: FlexTensor, indices: FlexTensor) -> (FlexTensor, Saved) {
    let table = contiguous(table);
    let (entries, width) = rows_and_width(&dims(&table));
    let mut out_dims = dims(&indices);
    out_dims.push(width);
    let indices = ids(&indices);
    let values = floats(&table);
    let mut out = buffer(indices.len() * width);
    for (out, id) in out.chunks_exact_mut(width.max(1)).zip(&indices) {
        // The model refuses unknown ids; here they would read as zeros, as their gradient is zero.
        match usize::try_from(*id).ok().filter(|id| *id < entries) {
            Some(id) => out.copy_from_slice(&values[id * width..][..width]),
            None => out.fill(0.0),
        }
    }
    (
        tensor(out, &out_dims),
        (Arc::new(indices), [entries, width]),
    )
}

/// Parent: the table.
#[derive(Debug)]
pub(super) struct EmbeddingBackward;

impl Backward<Flex, 1> for EmbeddingBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let (indices, [entries, width]) = &ops.state;
        register(&ops, grads, 0, || {
            let mut d_table = Buffer::zeroed(entries * width);
            embedding_backward(indices, *width, floats(&dy), &mut d_table);
            tensor(d_table, &[*entries, *width])
        });
    }
}
