//! Table lookup: a kernel on the CPU, Burn's own elsewhere.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Tensor, module};
use mor_kernels::embedding_backward;

use super::backend::cpu::{
    Tracked, buffer, contiguous, dims, floats, ids, register, rows_and_width, tensor,
};
use super::backend::has_cpu_kernels;
use super::backend::pool::Buffer;
use super::backend::record::record;

/// Rows of `table: [entries, dim]` at `ids: [batch, seq]`, `[batch, seq, dim]`.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if has_cpu_kernels(&table) {
        return Tensor::from_dispatch(Dispatch::cpu_embedding(
            table.into_dispatch(),
            ids.into_dispatch(),
        ));
    }
    composed(table, ids)
}

/// See [`embedding`].
pub fn composed(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(table, ids)
}

/// What Burn dispatches; arguments and shapes as in [`embedding`].
#[backend_extension(Autodiff, Flex)]
trait CpuEmbedding: Backend {
    fn cpu_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

impl CpuEmbedding for Flex {
    fn cpu_embedding(table: FlexTensor, ids: FlexTensor) -> FlexTensor {
        forward(table, ids).0
    }
}

impl<C: CheckpointStrategy> CpuEmbedding for Autodiff<Flex, C> {
    fn cpu_embedding(table: Tracked, ids: FlexTensor) -> Tracked {
        let (table, node) = table.into_parts();
        record::<Flex, C, _, _, 1>(EmbeddingBackward, [node], || forward(table, ids))
    }
}

/// What the backward needs: the ids, and the shape of the table.
type Saved = (Arc<Vec<i64>>, [usize; 2]);

fn forward(table: FlexTensor, indices: FlexTensor) -> (FlexTensor, Saved) {
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
struct EmbeddingBackward;

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
