//! Rotary positions, in place where nobody else holds the tensor.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::{AttentionShape, rotary_backward, rotary_forward};

use super::attention::attention_shape;
use super::register;

pub(super) fn forward(x: FlexTensor, heads: usize, base: f32) -> FlexTensor {
    rotate(x, heads, base, rotary_forward)
}

fn rotate(
    x: FlexTensor,
    heads: usize,
    base: f32,
    kernel: fn(AttentionShape, f32, &mut [f32]),
) -> FlexTensor {
    // A view into a larger buffer is copied, since the kernel turns the whole buffer.
    let whole = x.layout().contiguous_offsets() == Some((0, x.bytes().len() / size_of::<f32>()));
    let mut x = if whole { x } else { x.to_contiguous() };
    let shape = attention_shape(&x, heads);
    kernel(shape, base, x.storage_mut());
    x
}

/// Parent: the tensor that was rotated. The backward needs heads and base.
#[derive(Debug)]
pub(super) struct RotaryBackward;

impl Backward<Flex, 1> for RotaryBackward {
    type State = (usize, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (heads, base) = ops.state;
        register(&ops, grads, 0, || rotate(dy, heads, base, rotary_backward));
    }
}
