//! Layer norm, with the addition of a residual branch in the same pass.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use mor_kernels::{layer_norm_backward, layer_norm_forward};

use super::buffers::{buffer, contiguous, dims, floats, rows_and_width, tensor};
use super::register;

/// What the backward needs.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    /// What was normalised.
    input: FlexTensor,
    gain: FlexTensor,
    /// Mean and reciprocal standard deviation of each row.
    mean: FlexTensor,
    rstd: FlexTensor,
}

pub(super) fn forward(
    x: FlexTensor,
    residual: Option<FlexTensor>,
    gain: FlexTensor,
    bias: FlexTensor,
    eps: f32,
) -> (FlexTensor, Saved) {
    let (x, residual) = (contiguous(x), residual.map(contiguous));
    let (gain, bias) = (contiguous(gain), contiguous(bias));
    let shape = dims(&x);
    let (rows, width) = rows_and_width(&shape);
    let mut y = buffer(rows * width);
    let (mut mean, mut rstd) = (buffer(rows), buffer(rows));
    let mut sum = residual.as_ref().map(|_| buffer(rows * width));
    let branch = residual.as_ref().map(floats).zip(sum.as_deref_mut());
    layer_norm_forward(
        floats(&x),
        branch,
        floats(&gain),
        floats(&bias),
        eps,
        &mut y,
        &mut mean,
        &mut rstd,
    );
    let saved = Saved {
        input: match sum {
            Some(sum) => tensor(sum, &shape),
            None => x,
        },
        gain,
        mean: tensor(mean, &[rows]),
        rstd: tensor(rstd, &[rows]),
    };
    (tensor(y, &shape), saved)
}

/// Parents: gain, bias, input, and the residual branch where there is one.
#[derive(Debug)]
pub(super) struct LayerNormBackward;

impl<const N: usize> Backward<Flex, N> for LayerNormBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let saved = &ops.state;
        let shape = dims(&saved.input);
        let (rows, width) = rows_and_width(&shape);
        let mut dx = buffer(rows * width);
        let (mut d_gain, mut d_bias) = (buffer(width), buffer(width));
        layer_norm_backward(
            floats(&saved.input),
            floats(&saved.gain),
            floats(&saved.mean),
            floats(&saved.rstd),
            floats(&dy),
            &mut dx,
            &mut d_gain,
            &mut d_bias,
        );
        let dx = tensor(dx, &shape);
        register(&ops, grads, 0, || tensor(d_gain, &[width]));
        register(&ops, grads, 1, || tensor(d_bias, &[width]));
        // Both terms of a sum have the gradient of the sum.
        register(&ops, grads, 2, || dx.clone());
        register(&ops, grads, 3, || dx);
    }
}
