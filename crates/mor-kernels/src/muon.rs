//! The orthogonalisation at the heart of the Muon optimizer.

use crate::check::check_len;
use crate::matmul::{Matrix, Start, product};
use crate::optimizer::sum_squares;
use crate::precision::MatmulPrecision;
use crate::profile::{Kernel, timer};

/// Coefficients of the quintic `a·x + b·x³ + c·x⁵`, from Keller Jordan's Muon: steepest at zero
/// while every singular value ends between about 0.7 and 1.2.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
const STEPS: usize = 5;

/// Replaces the singular values of `g: [rows, cols]` by about one: five Newton–Schulz steps. The
/// result, `out: [rows, cols]`, has no scale of its own; a zero `g` gives zeros.
pub fn muon_orthogonalize(
    precision: MatmulPrecision,
    [rows, cols]: [usize; 2],
    g: &[f32],
    out: &mut [f32],
) {
    let _timer = timer(Kernel::Optimizer);
    check_len("g", g, &[rows, cols]);
    check_len("out", out, &[rows, cols]);
    if g.is_empty() {
        return;
    }
    let scale = (1.0 / (sum_squares(g).sqrt() + 1e-7)) as f32;
    for (o, g) in out.iter_mut().zip(g) {
        *o = g * scale;
    }
    // The Gram matrix over the shorter side: x·xᵀ for wide matrices, xᵀ·x for tall ones.
    let wide = rows <= cols;
    let side = rows.min(cols);
    let [a, b, c] = QUINTIC;
    let mut gram = vec![0.0; side * side];
    let mut square = vec![0.0; side * side];
    let mut next = vec![0.0; rows * cols];
    for _ in 0..STEPS {
        let (plain, turned) = (Matrix::row_major(out, cols), Matrix::transposed(out, cols));
        if wide {
            product(
                precision,
                [side, side, cols],
                plain,
                turned,
                &mut gram,
                Start::Zero,
            );
        } else {
            product(
                precision,
                [side, side, rows],
                turned,
                plain,
                &mut gram,
                Start::Zero,
            );
        }
        let gram_view = Matrix::row_major(&gram, side);
        product(
            precision,
            [side, side, side],
            gram_view,
            gram_view,
            &mut square,
            Start::Zero,
        );
        for (s, g) in square.iter_mut().zip(&gram) {
            *s = b * g + c * *s;
        }
        for i in 0..side {
            square[i * side + i] += a;
        }
        let factor = Matrix::row_major(&square, side);
        if wide {
            product(
                precision,
                [rows, cols, rows],
                factor,
                Matrix::row_major(out, cols),
                &mut next,
                Start::Zero,
            );
        } else {
            product(
                precision,
                [rows, cols, cols],
                Matrix::row_major(out, cols),
                factor,
                &mut next,
                Start::Zero,
            );
        }
        out.copy_from_slice(&next);
    }
}
