//! Rotary positions, in place where nobody else holds the tensor.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::{AttentionShape, rotary_backward, rotary_forward};

use super::attention::attention_shape;
use super::register;

/// Heads, base and positions.
pub(super) type Turn = (usize, f32, Option<Arc<[u32]>>);

pub(super) fn forward(x: FlexTensor, turn: &Turn) -> FlexTensor {
    rotate(x, turn, rotary_forward)
}

fn rotate(
    x: FlexTensor,
    (heads, base, positions): &Turn,
    kernel: fn(AttentionShape, f32, Option<&[u32]>, &mut [f32]),
) -> FlexTensor {
    // A view into a larger buffer is copied, since the kernel turns the whole buffer.
    let whole = x.layout().contiguous_offsets() == Some((0, x.bytes().len() / size_of::<f32>()));
    let mut x = if whole { x } else { x.to_contiguous() };
    let shape = attention_shape(&x, *heads);
    kernel(shape, *base, positions.as_deref(), x.storage_mut());
    x
}

/// Parent: the tensor that was rotated.
#[derive(Debug)]
pub(super) struct RotaryBackward;

impl Backward<Flex, 1> for RotaryBackward {
    type State = Turn;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        register(&ops, grads, 0, || rotate(dy, &ops.state, rotary_backward));
    }
}
