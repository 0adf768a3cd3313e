//! Linear layers: `y = x · wᵀ + b` and its three gradients. Each product is told its precision.

use crate::check::check_len;
use crate::matmul::{Matrix, Start, product, product_gelu};
use crate::precision::MatmulPrecision;
use crate::profile::{Kernel, timer};

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

impl LinearShape {
    #[track_caller]
    fn check_x(self, name: &str, x: &[f32]) {
        check_len(name, x, &[self.rows, self.inputs]);
    }

    #[track_caller]
    fn check_w(self, name: &str, w: &[f32]) {
        check_len(name, w, &[self.outputs, self.inputs]);
    }

    #[track_caller]
    fn check_y(self, name: &str, y: &[f32]) {
        check_len(name, y, &[self.rows, self.outputs]);
    }

    /// `[m, n, k]` of the forward product with its operands, once all are checked.
    #[track_caller]
    fn forward<'a>(
        self,
        x: &'a [f32],
        w: &'a [f32],
        bias: Option<&'a [f32]>,
    ) -> ([usize; 3], Matrix<'a>, Matrix<'a>, Start<'a>) {
        self.check_x("x", x);
        self.check_w("w", w);
        if let Some(bias) = bias {
            check_len("bias", bias, &[self.outputs]);
        }
        (
            [self.rows, self.outputs, self.inputs],
            Matrix::row_major(x, self.inputs),
            Matrix::transposed(w, self.inputs),
            bias.map_or(Start::Zero, Start::Bias),
        )
    }
}

/// `y = x · wᵀ + bias`, with `x: [rows, inputs]`, `w: [outputs, inputs]`, `bias: [outputs]` and
/// `y: [rows, outputs]`.
///
/// ```
/// use mor_kernels::{LinearShape, MatmulPrecision, linear_forward};
///
/// let shape = LinearShape { rows: 1, inputs: 2, outputs: 3 };
/// let w = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
/// let mut y = [0.0; 3];
/// linear_forward(MatmulPrecision::F32, shape, &[2.0, 3.0], &w, Some(&[0.0, 0.0, 1.0]), &mut y);
/// assert_eq!(y, [2.0, 3.0, 6.0]);
/// ```
pub fn linear_forward(
    precision: MatmulPrecision,
    shape: LinearShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let _timer = timer(Kernel::Linear);
    let (sizes, x, w, start) = shape.forward(x, w, bias);
    shape.check_y("y", y);
    product(precision, sizes, x, w, y, start);
}

/// `pre = x · wᵀ + bias` and `y = gelu(pre)`: the first half of a feed-forward block. Shapes as in
/// [`linear_forward`]; `pre` and `y` are `[rows, outputs]`, and `pre` is what
/// [`gelu_backward`](crate::gelu_backward) needs.
pub fn linear_gelu_forward(
    precision: MatmulPrecision,
    shape: LinearShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    pre: &mut [f32],
    y: &mut [f32],
) {
    let _timer = timer(Kernel::Linear);
    let (sizes, x, w, start) = shape.forward(x, w, bias);
    shape.check_y("pre", pre);
    shape.check_y("y", y);
    product_gelu(precision, sizes, x, w, pre, start, y);
}

/// `dx = dy · w`, with `dy: [rows, outputs]`, `w: [outputs, inputs]` and `dx: [rows, inputs]`.
pub fn linear_backward_input(
    precision: MatmulPrecision,
    shape: LinearShape,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) {
    let _timer = timer(Kernel::LinearBackward);
    shape.check_y("dy", dy);
    shape.check_w("w", w);
    shape.check_x("dx", dx);
    product(
        precision,
        [shape.rows, shape.inputs, shape.outputs],
        Matrix::row_major(dy, shape.outputs),
        Matrix::row_major(w, shape.inputs),
        dx,
        Start::Zero,
    );
}

/// `dw = dyᵀ · x`, with `dy: [rows, outputs]`, `x: [rows, inputs]` and `dw: [outputs, inputs]`.
pub fn linear_backward_weight(
    precision: MatmulPrecision,
    shape: LinearShape,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
) {
    let _timer = timer(Kernel::LinearBackward);
    backward_weight(precision, shape, dy, x, dw, Start::Zero);
}

/// As [`linear_backward_weight`], but *accumulated*: `dw += dyᵀ · x`.
pub fn linear_backward_weight_accumulate(
    precision: MatmulPrecision,
    shape: LinearShape,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
) {
    let _timer = timer(Kernel::LinearBackward);
    backward_weight(precision, shape, dy, x, dw, Start::Accumulate);
}

fn backward_weight(
    precision: MatmulPrecision,
    shape: LinearShape,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    start: Start<'_>,
) {
    shape.check_y("dy", dy);
    shape.check_x("x", x);
    shape.check_w("dw", dw);
    product(
        precision,
        [shape.outputs, shape.inputs, shape.rows],
        Matrix::transposed(dy, shape.outputs),
        Matrix::row_major(x, shape.inputs),
        dw,
        start,
    );
}

/// `db` = the sum of `dy: [rows, outputs]` over its rows, with `db: [outputs]`.
pub fn linear_backward_bias(dy: &[f32], db: &mut [f32]) {
    let _timer = timer(Kernel::LinearBackward);
    let outputs = db.len();
    if outputs == 0 {
        return;
    }
    check_len("dy", dy, &[dy.len() / outputs, outputs]);
    crate::reduce::sum_rows(dy, db);
}
