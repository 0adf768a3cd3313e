//! Layer normalisation over the last dimension, with an optional residual added first.

use crate::check::check_len;
use rayon::prelude::*;

/// Rows that one task handles, and the unit in which gradients of gain and bias are summed.
const CHUNK_ROWS: usize = 64;

/// `y = (s - mean(s)) · rstd(s) · gain + bias` for each row `s` of `x: [rows, dim]`.
///
/// With a residual `(r, sum)`, both `[rows, dim]`, the row is `s = x + r`, which is stored in `sum`
/// for [`layer_norm_backward`]. `gain` and `bias` are `[dim]`, `y` is `[rows, dim]`; `mean` and
/// `rstd` (one over the square root of the biased variance plus `eps`) are `[rows]`.
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
    let (rows, dim) = (mean.len(), gain.len());
    check_len("x", x, &[rows, dim]);
    check_len("bias", bias, &[dim]);
    check_len("y", y, &[rows, dim]);
    check_len("rstd", rstd, &[rows]);
    if rows == 0 || dim == 0 {
        return;
    }
    let source: &[f32] = match residual {
        Some((residual, sum)) => {
            check_len("residual", residual, &[rows, dim]);
            check_len("sum", sum, &[rows, dim]);
            sum.par_chunks_mut(CHUNK_ROWS * dim)
                .zip(x.par_chunks(CHUNK_ROWS * dim))
                .zip(residual.par_chunks(CHUNK_ROWS * dim))
                .for_each(|((s, x), r)| {
                    for ((s, x), r) in s.iter_mut().zip(x).zip(r) {
                        *s = x + r;
                    }
                });
            sum
        }
        None => x,
    };
    y.par_chunks_mut(dim)
        .zip(source.par_chunks(dim))
        .zip(mean.par_iter_mut().zip(rstd))
        .with_min_len(CHUNK_ROWS)
        .for_each(|((y, x), (mean, rstd))| {
            let m = x.iter().sum::<f32>() / dim as f32;
            let var = x.iter().map(|v| (v - m) * (v - m)).sum::<f32>() / dim as f32;
            let r = 1.0 / (var + eps).sqrt();
            for (((y, x), g), b) in y.iter_mut().zip(x).zip(gain).zip(bias) {
                *y = (x - m) * r * g + b;
            }
            *mean = m;
            *rstd = r;
        });
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
    let partial: Vec<(Vec<f32>, Vec<f32>)> = dx
        .par_chunks_mut(width)
        .zip(x.par_chunks(width))
        .zip(dy.par_chunks(width))
        .zip(mean.par_chunks(CHUNK_ROWS).zip(rstd.par_chunks(CHUNK_ROWS)))
        .map(|(((dx, x), dy), (mean, rstd))| {
            let mut dgain = vec![0.0_f32; dim];
            let mut dbias = vec![0.0_f32; dim];
            for (i, (&m, &r)) in mean.iter().zip(rstd).enumerate() {
                let span = i * dim..(i + 1) * dim;
                let (x, dy, dx) = (&x[span.clone()], &dy[span.clone()], &mut dx[span]);
                let (mut sum, mut dot) = (0.0_f32, 0.0_f32);
                for j in 0..dim {
                    let normed = (x[j] - m) * r;
                    let d = dy[j] * gain[j];
                    sum += d;
                    dot += d * normed;
                    dgain[j] += dy[j] * normed;
                    dbias[j] += dy[j];
                }
                let (sum, dot) = (sum / dim as f32, dot / dim as f32);
                for j in 0..dim {
                    let normed = (x[j] - m) * r;
                    dx[j] = r * (dy[j] * gain[j] - sum - normed * dot);
                }
            }
            (dgain, dbias)
        })
        .collect();
    for (g, b) in partial {
        for j in 0..dim {
            dgain[j] += g[j];
            dbias[j] += b[j];
        }
    }
}
