//! Layer norm, with the addition of a residual branch in the same pass.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use mor_kernels::{layer_norm_backward, layer_norm_forward};

use crate::ops::backend::cpu::{buffer, dims, floats, rows_and_width, tensor};
use crate::ops::custom::SavedLayerNorm;

pub(super) fn forward(
    x: FlexTensor,
    residual: Option<FlexTensor>,
    gain: FlexTensor,
    bias: &FlexTensor,
    eps: f32,
) -> (FlexTensor, SavedLayerNorm<Flex>) {
    let shape = dims(&x);
    let (rows, width) = rows_and_width(&shape);
    let mut y = buffer(rows * width);
    let mut moments = buffer(2 * rows);
    let (mean, rstd) = moments.split_at_mut(rows);
    let mut sum = residual.as_ref().map(|_| buffer(rows * width));
    let branch = residual.as_ref().map(floats).zip(sum.as_deref_mut());
    layer_norm_forward(
        floats(&x),
        branch,
        floats(&gain),
        floats(bias),
        eps,
        &mut y,
        mean,
        rstd,
    );
    let saved = SavedLayerNorm {
        input: match sum {
            Some(sum) => tensor(sum, &shape),
            None => x,
        },
        gain,
        moments: tensor(moments, &[2, rows]),
    };
    (tensor(y, &shape), saved)
}

/// Gradients of what was normalised, of gain and of bias.
pub(super) fn backward(saved: &SavedLayerNorm<Flex>, dy: &FlexTensor) -> [FlexTensor; 3] {
    let shape = dims(&saved.input);
    let (rows, width) = rows_and_width(&shape);
    let (mean, rstd) = floats(&saved.moments).split_at(rows);
    let mut dx = buffer(rows * width);
    let (mut d_gain, mut d_bias) = (buffer(width), buffer(width));
    layer_norm_backward(
        floats(&saved.input),
        floats(&saved.gain),
        mean,
        rstd,
        floats(dy),
        &mut dx,
        &mut d_gain,
        &mut d_bias,
    );
    [
        tensor(dx, &shape),
        tensor(d_gain, &[width]),
        tensor(d_bias, &[width]),
    ]
}
