//! Sums over rows whose result does not depend on the number of threads.

use rayon::prelude::*;

/// Rows that one task adds up; constant, so that the order of additions is too.
const CHUNK_ROWS: usize = 128;

/// `out[j]` = the sum over rows of `x: [rows, out.len()]`.
pub(crate) fn sum_rows(x: &[f32], out: &mut [f32]) {
    let cols = out.len();
    out.fill(0.0);
    let partial: Vec<Vec<f32>> = x
        .par_chunks(CHUNK_ROWS * cols)
        .map(|chunk| {
            let mut sum = vec![0.0_f32; cols];
            for row in chunk.chunks_exact(cols) {
                for (s, v) in sum.iter_mut().zip(row) {
                    *s += v;
                }
            }
            sum
        })
        .collect();
    for sum in partial {
        for (o, s) in out.iter_mut().zip(sum) {
            *o += s;
        }
    }
}
