//! Layer normalisation over the last dimension, with an optional residual added first.
#![allow(unsafe_code)] // vector code; every pointer stays within rows of checked length

use crate::check::check_len;
use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::profile::{Kernel, timer};
use crate::scratch::{Slot, with_scratch};
use mor_math::simd::Simd;
use rayon::prelude::*;

/// Rows that one task handles, and the unit in which gradients of gain and bias are summed.
const CHUNK_ROWS: usize = 64;

/// `y = (s - mean(s)) · rstd(s) · gain + bias` for each row `s` of `x: [rows, dim]`.
///
/// With a residual `(r, sum)`, both `[rows, dim]`, the row is `s = x + r`, which is stored in `sum`
/// for [`layer_norm_backward`]. `gain` and `bias` are `[dim]`, `y` is `[rows, dim]`; `mean` and
/// `rstd` (one over the square root of the biased variance plus `eps`) are `[rows]`.
///
/// ```
/// // Two rows of four.
/// let x = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 8.0];
/// let (gain, bias) = ([1.0; 4], [0.5; 4]);
/// let (mut y, mut mean, mut rstd) = ([0.0; 8], [0.0; 2], [0.0; 2]);
/// mor_kernels::layer_norm_forward(&x, None, &gain, &bias, 1e-5, &mut y, &mut mean, &mut rstd);
/// assert_eq!(mean, [2.5, 2.0]);
/// assert!((y[..4].iter().sum::<f32>() - 4.0 * 0.5).abs() < 1e-5);
/// ```
#[allow(clippy::too_many_arguments)] // a kernel's operands, each with its own shape
pub fn layer_norm_forward(
    x: &[f32],
    residual: Option<(&[f32], &mut [f32])>,
    gain: &[f32],
    bias: &[f32],
    eps: f32,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let _timer = timer(Kernel::LayerNorm);
    let (rows, dim) = (mean.len(), gain.len());
    check_len("x", x, &[rows, dim]);
    check_len("bias", bias, &[dim]);
    check_len("y", y, &[rows, dim]);
    check_len("rstd", rstd, &[rows]);
    if rows == 0 || dim == 0 {
        return;
    }
    let (residual, sum): (&[f32], &mut [f32]) = match residual {
        Some((residual, sum)) => {
            check_len("residual", residual, &[rows, dim]);
            check_len("sum", sum, &[rows, dim]);
            (residual, sum)
        }
        None => (&[], &mut []),
    };
    let isa = current_isa();
    let width = CHUNK_ROWS * dim;
    let pieces = y.par_chunks_mut(width).zip(x.par_chunks(width));
    let saved = mean
        .par_chunks_mut(CHUNK_ROWS)
        .zip(rstd.par_chunks_mut(CHUNK_ROWS));
    // SAFETY (both calls): `isa` is available; the chunks have `dim` numbers for each mean, and
    // `residual` and `sum` are either like them or empty.
    if sum.is_empty() {
        // SAFETY: `isa` is available; the chunks have `dim` numbers for each mean, and without a residual none are read.
        pieces.zip(saved).for_each(|((y, x), (mean, rstd))| unsafe {
            forward(isa, x, &[], &mut [], gain, bias, eps, y, mean, rstd);
        });
    } else {
        let extra = sum.par_chunks_mut(width).zip(residual.par_chunks(width));
        pieces
            .zip(saved)
            .zip(extra)
            // SAFETY: as above, and `sum` and `r` have as many numbers as `x`.
            .for_each(|(((y, x), (mean, rstd)), (sum, r))| unsafe {
                forward(isa, x, r, sum, gain, bias, eps, y, mean, rstd);
            });
    }
}

dispatch! {
    fn forward(
        x: &[f32],
        residual: &[f32],
        sum: &mut [f32],
        gain: &[f32],
        bias: &[f32],
        eps: f32,
        y: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) = forward_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn forward_body<S: Simd>(
    x: &[f32],
    residual: &[f32],
    sum: &mut [f32],
    gain: &[f32],
    bias: &[f32],
    eps: f32,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let dim = gain.len();
    let inverse = 1.0 / dim as f32;
    for row in 0..mean.len() {
        // SAFETY: row by row within chunks of `mean.len() · dim` numbers; `j + n <= dim`.
        unsafe {
            let mut x = x.as_ptr().add(row * dim);
            let y = y.as_mut_ptr().add(row * dim);
            let mut total = S::splat(0.0);
            let mut j = 0;
            if sum.is_empty() {
                while j < dim {
                    let n = S::LANES.min(dim - j);
                    total = S::add(total, S::load_first(x.add(j), n));
                    j += n;
                }
            } else {
                let residual = residual.as_ptr().add(row * dim);
                let sum = sum.as_mut_ptr().add(row * dim);
                while j < dim {
                    let n = S::LANES.min(dim - j);
                    let v = S::add(
                        S::load_first(x.add(j), n),
                        S::load_first(residual.add(j), n),
                    );
                    S::store_first(sum.add(j), v, n);
                    total = S::add(total, v);
                    j += n;
                }
                x = sum;
            }
            let m = S::sum(total) * inverse;
            // The variance from differences, in a second pass: sums of squares would cancel.
            let center = S::splat(m);
            let mut squares = S::splat(0.0);
            let mut j = 0;
            while j + S::LANES <= dim {
                let d = S::sub(S::load(x.add(j)), center);
                squares = S::mul_add(d, d, squares);
                j += S::LANES;
            }
            let mut squares = S::sum(squares);
            while j < dim {
                let d = *x.add(j) - m;
                squares += d * d;
                j += 1;
            }
            let r = 1.0 / (squares * inverse + eps).sqrt();
            let scale = S::splat(r);
            let mut j = 0;
            while j < dim {
                let n = S::LANES.min(dim - j);
                let v = S::mul(S::sub(S::load_first(x.add(j), n), center), scale);
                let g = S::load_first(gain.as_ptr().add(j), n);
                let b = S::load_first(bias.as_ptr().add(j), n);
                S::store_first(y.add(j), S::mul_add(v, g, b), n);
                j += n;
            }
            mean[row] = m;
            rstd[row] = r;
        }
    }
}

/// Gradients of [`layer_norm_forward`].
///
/// `x: [rows, dim]` is what was normalised (the stored sum where there was a residual; `dx` is then
/// the gradient of both terms), `mean` and `rstd` are the saved `[rows]`, `dy` and `dx` are
/// `[rows, dim]`, `dgain` and `dbias` are `[dim]`.
#[allow(clippy::too_many_arguments)] // a kernel's operands, each with its own shape
pub fn layer_norm_backward(
    x: &[f32],
    gain: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
    dbias: &mut [f32],
) {
    let _timer = timer(Kernel::LayerNorm);
    let (rows, dim) = (mean.len(), gain.len());
    check_len("x", x, &[rows, dim]);
    check_len("rstd", rstd, &[rows]);
    check_len("dy", dy, &[rows, dim]);
    check_len("dx", dx, &[rows, dim]);
    check_len("dgain", dgain, &[dim]);
    check_len("dbias", dbias, &[dim]);
    dgain.fill(0.0);
    dbias.fill(0.0);
    if rows == 0 || dim == 0 {
        return;
    }
    let width = CHUNK_ROWS * dim;
    let isa = current_isa();
    let chunks = rows.div_ceil(CHUNK_ROWS);
    with_scratch(Slot::Partial, chunks * 2 * dim, |partial| {
        partial
            .par_chunks_mut(2 * dim)
            .zip(dx.par_chunks_mut(width))
            .zip(x.par_chunks(width).zip(dy.par_chunks(width)))
            .zip(mean.par_chunks(CHUNK_ROWS).zip(rstd.par_chunks(CHUNK_ROWS)))
            .for_each(|(((partial, dx), (x, dy)), (mean, rstd))| {
                partial.fill(0.0);
                let (dgain, dbias) = partial.split_at_mut(dim);
                // SAFETY: `isa` is available, and the chunks have `dim` numbers for each mean.
                unsafe { backward(isa, x, gain, mean, rstd, dy, dx, dgain, dbias) }
            });
        for sums in partial.chunks_exact(2 * dim) {
            let (g, b) = sums.split_at(dim);
            for j in 0..dim {
                dgain[j] += g[j];
                dbias[j] += b[j];
            }
        }
    });
}

dispatch! {
    fn backward(
        x: &[f32],
        gain: &[f32],
        mean: &[f32],
        rstd: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dgain: &mut [f32],
        dbias: &mut [f32],
    ) = backward_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn backward_body<S: Simd>(
    x: &[f32],
    gain: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
    dbias: &mut [f32],
) {
    let dim = gain.len();
    let inverse = 1.0 / dim as f32;
    for row in 0..mean.len() {
        // SAFETY: row by row within chunks of `mean.len() · dim` numbers; `j + n <= dim`.
        unsafe {
            let x = x.as_ptr().add(row * dim);
            let dy = dy.as_ptr().add(row * dim);
            let dx = dx.as_mut_ptr().add(row * dim);
            let (center, scale) = (S::splat(mean[row]), S::splat(rstd[row]));
            let (mut sum, mut dot) = (S::splat(0.0), S::splat(0.0));
            let mut j = 0;
            while j < dim {
                let n = S::LANES.min(dim - j);
                // Lanes past the end have a zero gradient and so add nothing.
                let dy = S::load_first(dy.add(j), n);
                let normed = S::mul(S::sub(S::load_first(x.add(j), n), center), scale);
                let d = S::mul(dy, S::load_first(gain.as_ptr().add(j), n));
                sum = S::add(sum, d);
                dot = S::mul_add(d, normed, dot);
                let (dgain, dbias) = (dgain.as_mut_ptr().add(j), dbias.as_mut_ptr().add(j));
                S::store_first(dgain, S::mul_add(dy, normed, S::load_first(dgain, n)), n);
                S::store_first(dbias, S::add(dy, S::load_first(dbias, n)), n);
                j += n;
            }
            let sum = S::splat(S::sum(sum) * inverse);
            let dot = S::splat(-S::sum(dot) * inverse);
            let mut j = 0;
            while j < dim {
                let n = S::LANES.min(dim - j);
                let normed = S::mul(S::sub(S::load_first(x.add(j), n), center), scale);
                let d = S::mul(
                    S::load_first(dy.add(j), n),
                    S::load_first(gain.as_ptr().add(j), n),
                );
                let v = S::mul_add(normed, dot, S::sub(d, sum));
                S::store_first(dx.add(j), S::mul(v, scale), n);
                j += n;
            }
        }
    }
}
