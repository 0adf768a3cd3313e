//! Layer norm over the kernels of `mor-kernels`.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use mor_kernels::{layer_norm_backward, layer_norm_forward};

use super::autodiff::{LayerNormKernels, Saved};
use crate::ops::backend::cpu::{buffer, dims, floats, rows_and_width, tensor};

impl LayerNormKernels for Flex {
    fn layer_norm_forward(
        x: FlexTensor,
        residual: Option<FlexTensor>,
        gain: FlexTensor,
        bias: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, Saved<Self>) {
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
            floats(&bias),
            eps,
            &mut y,
            mean,
            rstd,
        );
        let saved = Saved {
            input: match sum {
                Some(sum) => tensor(sum, &shape),
                None => x,
            },
            gain,
            moments: tensor(moments, &[2, rows]),
        };
        (tensor(y, &shape), saved)
    }

    fn layer_norm_backward(saved: Saved<Self>, dy: FlexTensor) -> [FlexTensor; 3] {
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
            floats(&dy),
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
}
