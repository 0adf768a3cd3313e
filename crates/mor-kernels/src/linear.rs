//! Linear layers: `y = x · wᵀ + b` and its three gradients.

use crate::check::check_len;
use crate::matmul::{Matrix, Start, product, product_gelu};

/// Sizes of a linear layer applied to a number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of `x` and `y`: all positions of all sequences.
    pub rows: usize,
    /// Width of `x`.
    pub inputs: usize,
    /// Width of `y`.
    pub outputs: usize,
}

/// `y = x · wᵀ + bias`, with `x: [rows, inputs]`, `w: [outputs, inputs]`, `bias: [outputs]` and
/// `y: [rows, outputs]`.
pub fn linear_forward(
    shape: LinearShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let LinearShape {
        rows,
        inputs,
        outputs,
    } = shape;
    check_len("x", x, &[rows, inputs]);
    check_len("w", w, &[outputs, inputs]);
    check_len("y", y, &[rows, outputs]);
    if let Some(bias) = bias {
        check_len("bias", bias, &[outputs]);
    }
    product(
        [rows, outputs, inputs],
        Matrix::row_major(x, inputs),
        Matrix::transposed(w, inputs),
        y,
        bias.map_or(Start::Zero, Start::Bias),
    );
}

/// `pre = x · wᵀ + bias` and `y = gelu(pre)`: the first half of a feed-forward block. Shapes as in
/// [`linear_forward`]; `pre` and `y` are `[rows, outputs]`, and `pre` is what
/// [`gelu_backward`](crate::gelu_backward) needs.
pub fn linear_gelu_forward(
    shape: LinearShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    pre: &mut [f32],
    y: &mut [f32],
) {
    let LinearShape {
        rows,
        inputs,
        outputs,
    } = shape;
    check_len("x", x, &[rows, inputs]);
    check_len("w", w, &[outputs, inputs]);
    check_len("pre", pre, &[rows, outputs]);
    check_len("y", y, &[rows, outputs]);
    if let Some(bias) = bias {
        check_len("bias", bias, &[outputs]);
    }
    let sizes = [rows, outputs, inputs];
    let (x, w) = (Matrix::row_major(x, inputs), Matrix::transposed(w, inputs));
    product_gelu(sizes, x, w, pre, bias.map_or(Start::Zero, Start::Bias), y);
}

/// `dx = dy · w`, with `dy: [rows, outputs]`, `w: [outputs, inputs]` and `dx: [rows, inputs]`.
pub fn linear_backward_input(shape: LinearShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let LinearShape {
        rows,
        inputs,
        outputs,
    } = shape;
    check_len("dy", dy, &[rows, outputs]);
    check_len("w", w, &[outputs, inputs]);
    check_len("dx", dx, &[rows, inputs]);
    product(
        [rows, inputs, outputs],
        Matrix::row_major(dy, outputs),
        Matrix::row_major(w, inputs),
        dx,
        Start::Zero,
    );
}

/// `dw = dyᵀ · x`, with `dy: [rows, outputs]`, `x: [rows, inputs]` and `dw: [outputs, inputs]`.
pub fn linear_backward_weight(shape: LinearShape, dy: &[f32], x: &[f32], dw: &mut [f32]) {
    backward_weight(shape, dy, x, dw, false);
}

/// As [`linear_backward_weight`], but *accumulated*: `dw += dyᵀ · x`.
pub fn linear_backward_weight_accumulate(
    shape: LinearShape,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
) {
    backward_weight(shape, dy, x, dw, true);
}

fn backward_weight(shape: LinearShape, dy: &[f32], x: &[f32], dw: &mut [f32], accumulate: bool) {
    let LinearShape {
        rows,
        inputs,
        outputs,
    } = shape;
    check_len("dy", dy, &[rows, outputs]);
    check_len("x", x, &[rows, inputs]);
    check_len("dw", dw, &[outputs, inputs]);
    product(
        [outputs, inputs, rows],
        Matrix::transposed(dy, outputs),
        Matrix::row_major(x, inputs),
        dw,
        if accumulate {
            Start::Accumulate
        } else {
            Start::Zero
        },
    );
}

/// `db` = the sum of `dy: [rows, outputs]` over its rows, with `db: [outputs]`.
pub fn linear_backward_bias(dy: &[f32], db: &mut [f32]) {
    let outputs = db.len();
    if outputs == 0 {
        return;
    }
    check_len("dy", dy, &[dy.len() / outputs, outputs]);
    crate::reduce::sum_rows(dy, db);
}
