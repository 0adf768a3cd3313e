//! Rotary positions, recorded for their backward pass: the rotation back.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;

use super::CustomBackend;
use crate::ops::Positions;
use crate::ops::backend::record;

/// How vectors are rotated.
#[derive(Debug, Clone)]
pub(in crate::ops) struct Rotation {
    pub(in crate::ops) heads: usize,
    pub(in crate::ops) base: f32,
    /// Of each vector, where they do not count from 0.
    pub(in crate::ops) positions: Option<Arc<Positions>>,
    /// Whether by the negative angles.
    pub(in crate::ops) inverse: bool,
}

impl Rotation {
    pub(super) fn forward(heads: usize, base: f32, positions: Option<Arc<Positions>>) -> Self {
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

pub(super) fn record<B: CustomBackend, C: CheckpointStrategy>(
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

impl<B: CustomBackend> Backward<B, 1> for RotaryBackward {
    type State = Rotation;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        record::register::<B, _, 1>(&ops, grads, 0, || {
            B::rotate(B::contiguous(dy), &ops.state.back())
        });
    }
}
