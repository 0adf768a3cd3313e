//! Dropout whose mask is computed again in the backward pass.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;

use crate::ops::backend::cpu::register;
use crate::ops::backend::cpu::{buffer, contiguous, dims, floats, tensor};

pub(super) fn forward(x: FlexTensor, probability: f32, seed: u64) -> FlexTensor {
    let x = contiguous(x);
    let mut y = buffer(floats(&x).len());
    mor_kernels::dropout(floats(&x), probability, seed, &mut y);
    tensor(y, &dims(&x))
}

/// Its state is the probability and the seed.
#[derive(Debug)]
pub(super) struct DropoutBackward;

impl Backward<Flex, 1> for DropoutBackward {
    type State = (f32, u64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (probability, seed) = ops.state;
        register(&ops, grads, 0, || forward(dy, probability, seed));
    }
}
