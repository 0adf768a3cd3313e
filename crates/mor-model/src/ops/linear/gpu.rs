//! Linear layers on a GPU: Burn's product, and a bias, whose gradient is summed here, since Burn's own sums each column by
//! one invocation after the other down all rows.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use mor_shaders::{ColumnSums, chunks};

use super::composed;
use crate::ops::backend::gpu::{Tracked, empty, is_half};
use crate::ops::backend::launch::{Op, launch};
use crate::ops::backend::operands::stored_as;
use crate::ops::backend::record;

/// See [`super::linear`].
pub(super) fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let product = composed::linear(x, weight, None);
    match bias {
        None => product,
        Some(bias) => Tensor::from_dispatch(Dispatch::gpu_add_bias(
            product.into_dispatch(),
            stored_as(bias, DType::F32).into_dispatch(),
        )),
    }
}

/// What Burn dispatches.
#[backend_extension(Autodiff, Cube)]
trait GpuBias: Backend {
    fn gpu_add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GpuBias for CubeBackend {
    fn gpu_add_bias(x: CubeTensor, bias: CubeTensor) -> CubeTensor {
        add(x, bias)
    }
}

impl<C: CheckpointStrategy> GpuBias for Autodiff<CubeBackend, C> {
    fn gpu_add_bias(x: Tracked, bias: Tracked) -> Tracked {
        record::<C>(x, bias)
    }
}

/// `x + bias`, in the precision of `x: [.., dim]`; `bias: [dim]`.
fn add(x: CubeTensor, bias: CubeTensor) -> CubeTensor {
    let mut shape = vec![1; x.shape().num_dims()];
    if let Some(last) = shape.last_mut() {
        *last = bias.shape().num_elements();
    }
    let bias = CubeBackend::float_cast(bias, x.dtype.into());
    CubeBackend::float_add(x, CubeBackend::float_reshape(bias, Shape::from(shape)))
}

/// The sums of the columns of contiguous `x: [.., dim]`, `[dim]`, in f32.
pub(in crate::ops) fn column_sums(x: CubeTensor) -> CubeTensor {
    let shape = x.shape();
    let dim = shape.last().copied().unwrap_or(1);
    let rows = shape.num_elements() / dim.max(1);
    let (of_chunk, count) = chunks(rows as u32);
    let sums = sums_of_chunks(x, dim, rows as u32, of_chunk, count);
    match count {
        0 | 1 => sums,
        _ => sums_of_chunks(sums, dim, count, count, 1),
    }
}

/// As many rows of sums as there are chunks; of one chunk without its dimension.
fn sums_of_chunks(x: CubeTensor, dim: usize, rows: u32, of_chunk: u32, chunks: u32) -> CubeTensor {
    let op = ColumnSums {
        dim: dim as u32,
        half: is_half(&x),
    };
    let sums = match chunks {
        1 => empty(&x, [dim], DType::F32),
        _ => empty(&x, [chunks as usize, dim], DType::F32),
    };
    let client = x.client.clone();
    let buffers = vec![x.handle, sums.handle.clone()];
    let grid = op.workgroups(chunks);
    launch(
        &client,
        Op::ColumnSums(op),
        grid,
        buffers,
        &[rows, of_chunk],
    );
    sums
}

fn record<C: CheckpointStrategy>(x: Tracked, bias: Tracked) -> Tracked {
    let (x, x_node) = x.into_parts();
    let (bias, bias_node) = bias.into_parts();
    record::record::<CubeBackend, C, _, _, 2>(AddBackward, [x_node, bias_node], || {
        (add(x, bias), ())
    })
}

/// Parents: the rows, and the bias, which is f32.
#[derive(Debug)]
struct AddBackward;

impl Backward<CubeBackend, 2> for AddBackward {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d = grads.consume::<CubeBackend>(&ops.node);
        record::register::<CubeBackend, _, 2>(&ops, grads, 1, || {
            column_sums(into_contiguous(d.clone()))
        });
        record::register::<CubeBackend, _, 2>(&ops, grads, 0, || d);
    }
}
