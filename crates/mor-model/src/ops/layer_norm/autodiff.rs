//! Layer norm as Burn dispatches it, to a device's kernels or recorded for the backward pass; and what a device computes
//! for it.

use std::fmt;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use crate::ops::backend::operands::MaybeFloat;
use crate::ops::backend::{KernelBackend, record};

/// What a device computes. Tensors are contiguous.
pub(super) trait LayerNormKernels: KernelBackend {
    /// Layer norm of `x`, or of `x + residual`, and what its backward needs. `gain` and `bias` are f32.
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, Saved<Self>);

    /// Gradients of what was normalised, of gain and of bias, given that of the output.
    fn layer_norm_backward(saved: Saved<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

/// What Burn dispatches; arguments and shapes as in [`super::layer_norm`].
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "gpu"))]
pub(super) trait LayerNormOps: Backend {
    fn custom_layer_norm(
        x: FloatTensor<Self>,
        #[extension_type] residual: MaybeFloat<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;
}

/// Without autodiff, it is the kernel.
impl<B: LayerNormKernels> LayerNormOps for B {
    fn custom_layer_norm(
        x: FloatTensor<Self>,
        residual: MaybeFloat<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        forward::<Self>(x, residual.given(), gain, bias, eps).0
    }
}

impl<B: LayerNormKernels, C: CheckpointStrategy> LayerNormOps for Autodiff<B, C> {
    fn custom_layer_norm(
        x: FloatTensor<Self>,
        residual: MaybeFloat<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        record::<B, C>(x, residual.given(), gain, bias, eps)
    }
}

/// What the backward needs.
pub(super) struct Saved<B: Backend> {
    /// What was normalised.
    pub(super) input: FloatTensor<B>,
    pub(super) gain: FloatTensor<B>,
    /// Mean and reciprocal standard deviation of each row, `[2, rows]`.
    pub(super) moments: FloatTensor<B>,
}

// Derived, these would ask the same of the backend.
impl<B: Backend> Clone for Saved<B> {
    fn clone(&self) -> Self {
        Self {
            input: self.input.clone(),
            gain: self.gain.clone(),
            moments: self.moments.clone(),
        }
    }
}

impl<B: Backend> fmt::Debug for Saved<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").finish_non_exhaustive()
    }
}

fn forward<B: LayerNormKernels>(
    x: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    gain: FloatTensor<B>,
    bias: FloatTensor<B>,
    eps: f32,
) -> (FloatTensor<B>, Saved<B>) {
    let [x, gain, bias] = [x, gain, bias].map(B::contiguous);
    B::layer_norm_forward(x, residual.map(B::contiguous), gain, bias, eps)
}

fn record<B: LayerNormKernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B>>,
    residual: Option<FloatTensor<Autodiff<B>>>,
    gain: FloatTensor<Autodiff<B>>,
    bias: FloatTensor<Autodiff<B>>,
    eps: f32,
) -> FloatTensor<Autodiff<B>> {
    let (x, x_node) = x.into_parts();
    let (gain, gain_node) = gain.into_parts();
    let (bias, bias_node) = bias.into_parts();
    match residual.map(FloatTensor::<Autodiff<B>>::into_parts) {
        Some((residual, residual_node)) => record::record::<B, C, _, _, 4>(
            LayerNormBackward,
            [gain_node, bias_node, x_node, residual_node],
            || forward::<B>(x, Some(residual), gain, bias, eps),
        ),
        None => record::record::<B, C, _, _, 3>(
            LayerNormBackward,
            [gain_node, bias_node, x_node],
            || forward::<B>(x, None, gain, bias, eps),
        ),
    }
}

/// Parents: gain, bias, input, and the residual branch where there is one.
#[derive(Debug)]
struct LayerNormBackward;

impl<B: LayerNormKernels, const N: usize> Backward<B, N> for LayerNormBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = B::contiguous(grads.consume::<B>(&ops.node));
        let [dx, d_gain, d_bias] = B::layer_norm_backward(ops.state.clone(), dy);
        record::register::<B, _, N>(&ops, grads, 0, || d_gain);
        record::register::<B, _, N>(&ops, grads, 1, || d_bias);
        // Both terms of a sum have the gradient of the sum.
        record::register::<B, _, N>(&ops, grads, 2, || dx.clone());
        record::register::<B, _, N>(&ops, grads, 3, || dx);
    }
}
