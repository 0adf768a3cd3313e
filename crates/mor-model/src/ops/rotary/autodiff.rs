//! Rotary positions as Burn dispatches them, to a device's kernel or recorded for the backward pass, which rotates back;
//! and what a device computes for them.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use super::positions::Positions;
use crate::ops::backend::{KernelBackend, record};

/// What a device computes.
pub(super) trait RotaryKernels: KernelBackend {
    /// `x`, which is contiguous, with its heads rotated, in its memory where nothing else holds that.
    fn rotate(x: FloatTensor<Self>, rotation: &Rotation) -> FloatTensor<Self>;
}

/// What Burn dispatches; arguments and shapes as in [`super::rotary`].
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "gpu"))]
pub(super) trait RotaryOps: Backend {
    fn custom_rotary(
        x: FloatTensor<Self>,
        heads: usize,
        base: f32,
        positions: Option<Arc<Positions>>,
    ) -> FloatTensor<Self>;
}

/// Without autodiff, it is the kernel.
impl<B: RotaryKernels> RotaryOps for B {
    fn custom_rotary(
        x: FloatTensor<Self>,
        heads: usize,
        base: f32,
        positions: Option<Arc<Positions>>,
    ) -> FloatTensor<Self> {
        let rotation = Rotation::forward(heads, base, positions);
        Self::rotate(Self::contiguous(x), &rotation)
    }
}

impl<B: RotaryKernels, C: CheckpointStrategy> RotaryOps for Autodiff<B, C> {
    fn custom_rotary(
        x: FloatTensor<Self>,
        heads: usize,
        base: f32,
        positions: Option<Arc<Positions>>,
    ) -> FloatTensor<Self> {
        record::<B, C>(x, Rotation::forward(heads, base, positions))
    }
}

/// How vectors are rotated.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    pub(super) heads: usize,
    pub(super) base: f32,
    /// Of each vector, where they do not count from 0.
    pub(super) positions: Option<Arc<Positions>>,
    /// Whether by the negative angles.
    pub(super) inverse: bool,
}

impl Rotation {
    fn forward(heads: usize, base: f32, positions: Option<Arc<Positions>>) -> Self {
        Self {
            heads,
            base,
            positions,
            inverse: false,
        }
    }

    fn back(&self) -> Self {
        Self {
            inverse: !self.inverse,
            ..self.clone()
        }
    }
}

fn record<B: RotaryKernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B>>,
    rotation: Rotation,
) -> FloatTensor<Autodiff<B>> {
    let (x, node) = x.into_parts();
    record::record::<B, C, _, _, 1>(RotaryBackward, [node], || {
        (B::rotate(B::contiguous(x), &rotation), rotation)
    })
}

/// Parent: the tensor that was rotated.
#[derive(Debug)]
struct RotaryBackward;

impl<B: RotaryKernels> Backward<B, 1> for RotaryBackward {
    type State = Rotation;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        record::register::<B, _, 1>(&ops, grads, 0, || {
            B::rotate(B::contiguous(dy), &ops.state.back())
        });
    }
}
