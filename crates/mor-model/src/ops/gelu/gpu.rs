//! The exact GELU over the shaders `gelu` and `gelu_backward`, recorded for its backward pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};
use mor_shaders::Gelu;

use crate::ops::backend::gpu::{Tracked, empty, is_half, writable};
use crate::ops::backend::launch::{Op, launch, numbers};
use crate::ops::backend::operands::{MaybeFloat, maybe_float, stored_as};
use crate::ops::backend::record;
use crate::ops::linear::composed::linear;
use crate::ops::linear::gpu::column_sums;

/// See [`super::linear_gelu`]. The bias is added on the way to the GELU.
pub(super) fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let product = linear(x, weight, None);
    let bias = bias.map(|bias| stored_as(bias, DType::F32));
    Tensor::from_dispatch(Dispatch::gpu_gelu(
        product.into_dispatch(),
        maybe_float(bias),
    ))
}

/// What Burn dispatches: the GELU of `x + bias`.
#[backend_extension(Autodiff, Cube)]
trait GpuGelu: Backend {
    fn gpu_gelu(
        x: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
    ) -> FloatTensor<Self>;
}

impl GpuGelu for CubeBackend {
    fn gpu_gelu(x: CubeTensor, bias: MaybeFloat<Self>) -> CubeTensor {
        forward(into_contiguous(x), bias.given().map(into_contiguous)).0
    }
}

impl<C: CheckpointStrategy> GpuGelu for Autodiff<CubeBackend, C> {
    fn gpu_gelu(x: Tracked, bias: MaybeFloat<Self>) -> Tracked {
        record::<C>(x, bias.given())
    }
}

/// What the backward needs: the input, and the bias.
type Saved = (CubeTensor, Option<CubeTensor>);

/// The shader for `x: [.., dim]`, and its number of rows.
fn shader(x: &CubeTensor, biased: bool) -> (Gelu, usize) {
    let elements = x.shape().num_elements();
    let dim = x.shape().last().copied().unwrap_or(1);
    let op = Gelu {
        stride: dim as u32,
        biased,
        half: is_half(x),
    };
    (op, elements / dim.max(1))
}

/// `gelu(x + bias)` of `x: [.., dim]` and `bias: [dim]` in f32, both contiguous.
fn forward(x: CubeTensor, bias: Option<CubeTensor>) -> (CubeTensor, Saved) {
    let (op, rows) = shader(&x, bias.is_some());
    let y = empty(&x, x.shape(), x.dtype);
    let mut buffers = vec![x.handle.clone()];
    buffers.extend(bias.as_ref().map(|bias| bias.handle.clone()));
    buffers.push(y.handle.clone());
    let grid = op.workgroups(rows as u32);
    launch(&x.client, Op::Gelu(op), grid, buffers, &numbers([rows]));
    (y, (x, bias))
}

/// The gradient of `x` from that of the output, in its memory where nothing else holds that.
fn backward((x, bias): Saved, d_y: CubeTensor) -> CubeTensor {
    let d = writable(d_y);
    let (op, rows) = shader(&x, bias.is_some());
    let mut buffers = vec![x.handle];
    buffers.extend(bias.map(|bias| bias.handle));
    buffers.push(d.handle.clone());
    let grid = op.workgroups(rows as u32);
    launch(
        &d.client,
        Op::GeluBackward(op),
        grid,
        buffers,
        &numbers([rows]),
    );
    d
}

fn record<C: CheckpointStrategy>(x: Tracked, bias: Option<Tracked>) -> Tracked {
    let (x, x_node) = x.into_parts();
    match bias.map(Tracked::into_parts) {
        Some((bias, bias_node)) => {
            record::record::<CubeBackend, C, _, _, 2>(GeluBackward, [x_node, bias_node], || {
                forward(into_contiguous(x), Some(into_contiguous(bias)))
            })
        }
        None => record::record::<CubeBackend, C, _, _, 1>(GeluBackward, [x_node], || {
            forward(into_contiguous(x), None)
        }),
    }
}

/// Parents: the input, and the bias where there is one.
#[derive(Debug)]
struct GeluBackward;

impl<const N: usize> Backward<CubeBackend, N> for GeluBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_y = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        let d_x = backward(ops.state.clone(), d_y);
        record::register::<CubeBackend, _, N>(&ops, grads, 1, || column_sums(d_x.clone()));
        record::register::<CubeBackend, _, N>(&ops, grads, 0, || d_x);
    }
}
