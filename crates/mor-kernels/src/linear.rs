//! Linear layers: `y = x · wᵀ + b` and its three gradients.

use crate::check::check_len;
use crate::gelu::gelu_forward;
use gemm::Parallelism;
use rayon::prelude::*;

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
        y.par_chunks_mut(outputs.max(1))
            .for_each(|row| row.copy_from_slice(bias));
    }
    product(
        [rows, outputs, inputs],
        Matrix::row_major(x, inputs),
        Matrix::transposed(w, inputs),
        y,
        bias.is_some(),
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
    linear_forward(shape, x, w, bias, pre);
    gelu_forward(pre, y);
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
        false,
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
        accumulate,
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

/// A matrix in memory with its two strides, counted in elements.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `data: [rows, cols]`, read as it is.
    pub(crate) fn row_major(data: &'a [f32], cols: usize) -> Self {
        Self {
            data,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// `data: [rows, cols]`, read as its transpose.
    pub(crate) fn transposed(data: &'a [f32], cols: usize) -> Self {
        Self {
            data,
            row_stride: 1,
            col_stride: cols,
        }
    }
}

/// `out = lhs · rhs` (or `out += …`), with `[m, n, k]` the sizes of `[m, k] · [k, n]`.
pub(crate) fn product(
    [m, n, k]: [usize; 3],
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    out: &mut [f32],
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let fits = |x: Matrix<'_>, rows: usize, cols: usize| {
        rows == 0
            || cols == 0
            || (rows - 1) * x.row_stride + (cols - 1) * x.col_stride < x.data.len()
    };
    assert!(
        fits(lhs, m, k) && fits(rhs, k, n) && out.len() == m * n,
        "matrix sizes disagree"
    );
    #[allow(unsafe_code)]
    // SAFETY: the assertion above bounds every element that the product reads or writes, and
    // `out` is borrowed mutably, so nothing aliases it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}
