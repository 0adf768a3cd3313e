//! Attention, layer norm, rotary positions and routing: operations with kernels of their own on CPU and GPU, and one
//! definition for both.
//!
//! [`CustomOps`] is what Burn dispatches: to a backend, or, when a tensor is tracked, to `Autodiff`, which records the
//! backward passes of the modules here. Those call [`CustomBackend`], which each backend has: the CPU in [`super::fused`] over
//! `mor-kernels`, GPUs in `super::gpu` over the shaders of `mor-shaders`.

mod attention;
mod layer_norm;
mod rotary;
mod rows;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
#[cfg(feature = "gpu")]
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use super::Positions;
use super::backend::KernelBackend;
use super::backend::operands::{MaybeBool, MaybeFloat};

/// The operations of [`super`] that have kernels on every device; arguments and shapes as there.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "gpu"))]
#[allow(
    missing_docs,
    reason = "each is documented where the crate's users see it"
)]
pub(super) trait CustomOps: Backend {
    fn custom_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] key_mask: MaybeBool<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;

    fn custom_layer_norm(
        x: FloatTensor<Self>,
        #[extension_type] residual: MaybeFloat<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    fn custom_rotary(
        x: FloatTensor<Self>,
        heads: usize,
        base: f32,
        positions: Option<Arc<Positions>>,
    ) -> FloatTensor<Self>;

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

/// What a backend computes for [`CustomOps`]. Float tensors are contiguous.
pub(super) trait CustomBackend: KernelBackend {
    /// The output, and the logarithm of the summed exponentials of each row's scores, `[batch, heads, seq]`.
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        key_mask: Option<BoolTensor<Self>>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of queries, keys and values, given that of the output.
    fn attention_backward(
        saved: attention::Saved<Self>,
        d_out: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// Layer norm of `x`, or of `x + residual`, and what its backward needs. `gain` and `bias` are f32.
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, layer_norm::Saved<Self>);

    /// Gradients of what was normalised, of gain and of bias, given that of the output.
    fn layer_norm_backward(
        saved: layer_norm::Saved<Self>,
        dy: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// `x` with its heads rotated, in its memory where nothing else holds that.
    fn rotate(x: FloatTensor<Self>, rotation: &rotary::Rotation) -> FloatTensor<Self>;

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

/// Without autodiff, an operation is its kernel.
macro_rules! untracked {
    ($backend:ty) => {
        impl CustomOps for $backend {
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

            fn custom_layer_norm(
                x: FloatTensor<Self>,
                residual: MaybeFloat<Self>,
                gain: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                eps: f32,
            ) -> FloatTensor<Self> {
                layer_norm::forward::<Self>(x, residual.given(), gain, bias, eps).0
            }

            fn custom_rotary(
                x: FloatTensor<Self>,
                heads: usize,
                base: f32,
                positions: Option<Arc<Positions>>,
            ) -> FloatTensor<Self> {
                let rotation = Rotation::forward(heads, base, positions);
                Self::rotate(Self::contiguous(x), &rotation)
            }

            fn custom_select(
                depths: IntTensor<Self>,
                step: u32,
            ) -> (IntTensor<Self>, IntTensor<Self>) {
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
    };
}

untracked!(Flex);
#[cfg(feature = "gpu")]
untracked!(CubeBackend);

impl<B: CustomBackend, C: CheckpointStrategy> CustomOps for Autodiff<B, C> {
    fn custom_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        key_mask: MaybeBool<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        attention::record::<B, C>(q, k, v, key_mask.given(), heads)
    }

    fn custom_layer_norm(
        x: FloatTensor<Self>,
        residual: MaybeFloat<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        layer_norm::record::<B, C>(x, residual.given(), gain, bias, eps)
    }

    fn custom_rotary(
        x: FloatTensor<Self>,
        heads: usize,
        base: f32,
        positions: Option<Arc<Positions>>,
    ) -> FloatTensor<Self> {
        rotary::record::<B, C>(x, Rotation::forward(heads, base, positions))
    }

    fn custom_select(depths: IntTensor<Self>, step: u32) -> (IntTensor<Self>, IntTensor<Self>) {
        B::select(depths, step)
    }

    fn custom_gather(
        x: FloatTensor<Self>,
        list: IntTensor<Self>,
        count: usize,
    ) -> FloatTensor<Self> {
        rows::record_gather::<B, C>(x, list, count)
    }

    fn custom_scatter(
        x: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        list: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        rows::record_scatter::<B, C>(x, rows, list)
    }
}

pub(super) use attention::Saved as SavedAttention;
pub(super) use layer_norm::Saved as SavedLayerNorm;
pub(super) use rotary::Rotation;
