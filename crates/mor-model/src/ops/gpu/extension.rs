//! Operations that only GPUs have by themselves: on the CPU they are parts of bigger ones in `crate::ops::fused`.
//!
//! [`GpuOps`] is a backend extension: Burn dispatches to the implementation for `CubeBackend`, or, when a tensor is
//! tracked, to the one for `Autodiff<CubeBackend>`, which records the hand-written backward.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Tensor};

use super::{gelu, row_losses};
use crate::ops::composed::{linear, stored_as};
use crate::ops::fused::MaybeFloat;
use crate::ops::maybe_float;

/// The operations of this file's end, on the primitives of a backend.
#[backend_extension(Autodiff, Cube)]
#[allow(
    missing_docs,
    reason = "each is documented where the crate's users see it"
)]
pub(super) trait GpuOps: Backend {
    fn gpu_gelu(
        x: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
    ) -> FloatTensor<Self>;

    fn gpu_row_losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        ignore: i64,
    ) -> FloatTensor<Self>;
}

impl GpuOps for CubeBackend {
    fn gpu_gelu(x: CubeTensor, bias: MaybeFloat<Self>) -> CubeTensor {
        gelu::forward(into_contiguous(x), bias.given().map(into_contiguous)).0
    }

    fn gpu_row_losses(logits: CubeTensor, targets: CubeTensor, ignore: i64) -> CubeTensor {
        row_losses::forward(into_contiguous(logits), targets, ignore).0
    }
}

/// A tracked tensor of a GPU.
pub(super) type Tracked = FloatTensor<Autodiff<CubeBackend>>;

impl<C: CheckpointStrategy> GpuOps for Autodiff<CubeBackend, C> {
    fn gpu_gelu(x: Tracked, bias: MaybeFloat<Self>) -> Tracked {
        gelu::record::<C>(x, bias.given())
    }

    fn gpu_row_losses(logits: Tracked, targets: CubeTensor, ignore: i64) -> Tracked {
        row_losses::record::<C>(logits, targets, ignore)
    }
}

/// See [`crate::ops::linear_gelu`]. The bias is added on the way to the GELU.
pub(in crate::ops) fn linear_gelu(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    let product = linear(x, weight, None);
    let bias = bias.map(|bias| stored_as(bias, DType::F32));
    Tensor::from_dispatch(Dispatch::gpu_gelu(
        product.into_dispatch(),
        maybe_float(bias),
    ))
}

/// The rows' losses of [`crate::ops::linear_cross_entropy`], in f32 from logits in the precision of `hidden`. A target
/// beyond the vocabulary has none.
pub(in crate::ops) fn linear_cross_entropy_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    ignore: i64,
) -> Tensor<1> {
    let weight = stored_as(weight, hidden.dtype());
    let logits = hidden.matmul(weight.transpose());
    Tensor::from_dispatch(Dispatch::gpu_row_losses(
        logits.into_dispatch(),
        targets.into_dispatch(),
        ignore,
    ))
}
