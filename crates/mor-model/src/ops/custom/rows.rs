//! Gathering rows and putting them back, recorded for their backward passes: each is the other's.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, TensorMetadata};

use super::CustomBackend;
use crate::ops::backend::record;

pub(super) fn record_gather<B: CustomBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B>>,
    list: IntTensor<B>,
    count: usize,
) -> FloatTensor<Autodiff<B>> {
    let (x, node) = x.into_parts();
    record::record::<B, C, _, _, 1>(GatherBackward, [node], || {
        let total = x.shape()[0];
        let rows = B::gather(B::contiguous(x), list.clone(), count);
        (rows, (list, total))
    })
}

/// Parent: what was gathered from. No row is gathered twice, so its gradient is one row's.
#[derive(Debug)]
struct GatherBackward;

impl<B: CustomBackend> Backward<B, 1> for GatherBackward {
    /// The list, and how many rows there were.
    type State = (IntTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_rows = B::contiguous(grads.consume::<B>(&ops.node));
        let (list, total) = ops.state.clone();
        record::register::<B, _, 1>(&ops, grads, 0, || B::spread(d_rows, list, total));
    }
}

pub(super) fn record_scatter<B: CustomBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B>>,
    rows: FloatTensor<Autodiff<B>>,
    list: IntTensor<B>,
) -> FloatTensor<Autodiff<B>> {
    let (x, x_node) = x.into_parts();
    let (rows, rows_node) = rows.into_parts();
    record::record::<B, C, _, _, 2>(ScatterBackward, [x_node, rows_node], || {
        let count = rows.shape()[0];
        let x = B::scatter(B::contiguous(x), B::contiguous(rows), list.clone());
        (x, (list, count))
    })
}

/// Parents: what was there before, which has no part in the rows that were replaced; and the new rows.
#[derive(Debug)]
struct ScatterBackward;

impl<B: CustomBackend> Backward<B, 2> for ScatterBackward {
    /// The list, and how many rows were replaced.
    type State = (IntTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_x = B::contiguous(grads.consume::<B>(&ops.node));
        let (list, count) = ops.state.clone();
        record::register::<B, _, 2>(&ops, grads, 1, || {
            B::gather(d_x.clone(), list.clone(), count)
        });
        record::register::<B, _, 2>(&ops, grads, 0, || B::clear(d_x, list, count));
    }
}
