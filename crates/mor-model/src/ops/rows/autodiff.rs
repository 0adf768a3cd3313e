//! Selecting, gathering and scattering rows as Burn dispatches them, to a device's kernels or recorded for the backward
//! pass; and what a device computes for them. Gathering and scattering are each the other's backward pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

use crate::ops::backend::{KernelBackend, record};

/// What a device computes. Float tensors are contiguous.
pub(super) trait RowKernels: KernelBackend {
    /// The numbers of the entries of `depths: [rows]` that are above `step`, in increasing order, in the first places
    /// of a list as long; and `[1]`, how many there are.
    fn select(depths: IntTensor<Self>, step: u32) -> (IntTensor<Self>, IntTensor<Self>);

    /// The rows of `x` at the first `count` numbers of `list`.
    fn gather(x: FloatTensor<Self>, list: IntTensor<Self>, count: usize) -> FloatTensor<Self>;

    /// `x` with `rows` in place of the rows at the first numbers of `list`; on a GPU in its memory where nothing else
    /// holds that, on the CPU a copy.
    fn scatter(
        x: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        list: IntTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `x` with zeros in the rows at the first `count` numbers of `list`.
    fn clear(x: FloatTensor<Self>, list: IntTensor<Self>, count: usize) -> FloatTensor<Self>;

    /// `total` rows, zeros but for `rows` at the first numbers of `list`.
    fn spread(rows: FloatTensor<Self>, list: IntTensor<Self>, total: usize) -> FloatTensor<Self>;
}

/// What Burn dispatches; arguments and shapes as in the functions of [`super`].
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "gpu"))]
pub(super) trait RowOps: Backend {
    fn custom_select(depths: IntTensor<Self>, step: u32) -> (IntTensor<Self>, IntTensor<Self>);

    fn custom_gather(
        x: FloatTensor<Self>,
        list: IntTensor<Self>,
        count: usize,
    ) -> FloatTensor<Self>;

    fn custom_scatter(
        x: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        list: IntTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Without autodiff, each is its kernel.
impl<B: RowKernels> RowOps for B {
    fn custom_select(depths: IntTensor<Self>, step: u32) -> (IntTensor<Self>, IntTensor<Self>) {
        Self::select(depths, step)
    }

    fn custom_gather(
        x: FloatTensor<Self>,
        list: IntTensor<Self>,
        count: usize,
    ) -> FloatTensor<Self> {
        Self::gather(Self::contiguous(x), list, count)
    }

    fn custom_scatter(
        x: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        list: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::scatter(Self::contiguous(x), Self::contiguous(rows), list)
    }
}

impl<B: RowKernels, C: CheckpointStrategy> RowOps for Autodiff<B, C> {
    fn custom_select(depths: IntTensor<Self>, step: u32) -> (IntTensor<Self>, IntTensor<Self>) {
        B::select(depths, step)
    }

    fn custom_gather(
        x: FloatTensor<Self>,
        list: IntTensor<Self>,
        count: usize,
    ) -> FloatTensor<Self> {
        record_gather::<B, C>(x, list, count)
    }

    fn custom_scatter(
        x: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        list: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        record_scatter::<B, C>(x, rows, list)
    }
}

fn record_gather<B: RowKernels, C: CheckpointStrategy>(
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

impl<B: RowKernels> Backward<B, 1> for GatherBackward {
    /// The list, and how many rows there were.
    type State = (IntTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_rows = B::contiguous(grads.consume::<B>(&ops.node));
        let (list, total) = ops.state.clone();
        record::register::<B, _, 1>(&ops, grads, 0, || B::spread(d_rows, list, total));
    }
}

fn record_scatter<B: RowKernels, C: CheckpointStrategy>(
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

impl<B: RowKernels> Backward<B, 2> for ScatterBackward {
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
