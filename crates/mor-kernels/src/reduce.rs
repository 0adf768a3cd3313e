//! Sums over rows whose result does not depend on the number of threads.
#![allow(unsafe_code)] // vector code; every pointer stays within rows of checked length

use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::scratch::{Slot, with_scratch};
use mor_math::simd::Simd;
use rayon::prelude::*;

/// Rows that one task adds up; constant, so that the order of additions is too.
const CHUNK_ROWS: usize = 128;

/// `out[j]` = the sum over rows of `x: [rows, out.len()]`.
pub(crate) fn sum_rows(x: &[f32], out: &mut [f32]) {
    let cols = out.len();
    out.fill(0.0);
    let isa = current_isa();
    let chunks = x.len().div_ceil(CHUNK_ROWS * cols);
    with_scratch(Slot::Partial, chunks * cols, |partial| {
        partial
            .par_chunks_mut(cols)
            .zip(x.par_chunks(CHUNK_ROWS * cols))
            .for_each(|(sum, x)| {
                sum.fill(0.0);
                // SAFETY: `isa` is available, and `x` is whole rows of `sum.len()`.
                unsafe { add_rows(isa, x, sum) }
            });
        // SAFETY: as above.
        unsafe { add_rows(isa, partial, out) }
    });
}

dispatch! {
    fn add_rows(x: &[f32], sum: &mut [f32]) = add_rows_body
}

/// Adds every row of `x: [rows, sum.len()]` to `sum`.
#[inline(always)]
unsafe fn add_rows_body<S: Simd>(x: &[f32], sum: &mut [f32]) {
    let cols = sum.len();
    let rows = x.len() / cols;
    let mut row = 0;
    while row < rows {
        // Four rows at a time, so that `sum` is read and written a quarter as often.
        let count = 4.min(rows - row);
        let mut j = 0;
        while j < cols {
            let n = S::LANES.min(cols - j);
            // SAFETY: `j + n <= cols`, and the rows lie within `x`.
            unsafe {
                let to = sum.as_mut_ptr().add(j);
                let mut total = S::load_first(to, n);
                for r in row..row + count {
                    total = S::add(total, S::load_first(x.as_ptr().add(r * cols + j), n));
                }
                S::store_first(to, total, n);
            }
            j += n;
        }
        row += count;
    }
}
