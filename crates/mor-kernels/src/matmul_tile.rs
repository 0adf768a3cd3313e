//! The register tile of matrix products and attention, and what becomes of its sums.
#![allow(unsafe_code)] // its callers pass pointers to whole packed panels and into checked results

use crate::math::normal;
use crate::matmul::Job;
use mor_math::simd::Simd;

/// The GELU of a finished tile, which is still in the first-level cache.
#[inline(always)]
pub(crate) unsafe fn activate<S: Simd>(job: &Job, row: usize, m: usize, col: usize, n: usize) {
    for r in row..row + m {
        let mut j = 0;
        while j < n {
            let lanes = S::LANES.min(n - j);
            // SAFETY: the tile lies within the result, and `activated` has its size.
            unsafe {
                let x = S::load_first(job.out.add(r * job.out_row + col + j), lanes);
                let to = job.activated.add(r * job.out_row + col + j);
                S::store_first(to, S::mul(x, normal::<S>(x).0), lanes);
            }
            j += lanes;
        }
    }
}

/// The register tile: `R` rows of a left panel times a right panel two vectors wide. Element `(r, p)`
/// of the left panel is at `r · ROW + p · STEP`.
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd, const R: usize, const ROW: usize, const STEP: usize>(
    k: usize,
    mut left: *const f32,
    mut right: *const f32,
) -> [[S::V; 2]; R] {
    // SAFETY: the left panel has `R` rows and the right one two vectors for each of `k` steps.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; R];
        for _ in 0..k {
            let (b0, b1) = (S::load(right), S::load(right.add(S::LANES)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = S::splat(*left.add(r * ROW));
                sum[0] = S::mul_add(a, b0, sum[0]);
                sum[1] = S::mul_add(a, b1, sum[1]);
            }
            left = left.add(STEP);
            right = right.add(2 * S::LANES);
        }
        sums
    }
}

/// Writes the first `m` rows and `n` columns of a tile to the result.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd, const R: usize, const WHOLE: bool>(
    out_row: usize,
    m: usize,
    n: usize,
    out: *mut f32,
    bias: *const f32,
    add: bool,
    sums: &[[S::V; 2]; R],
) {
    for (half, first) in [0, S::LANES].into_iter().enumerate() {
        let lanes = if WHOLE {
            S::LANES
        } else {
            n.saturating_sub(first).min(S::LANES)
        };
        if lanes == 0 {
            return;
        }
        // SAFETY: `m` rows and `n` columns of the result, and `n` of a bias, are the caller's; without `WHOLE` only `lanes` of them
        // are touched.
        unsafe {
            let start = if bias.is_null() {
                S::splat(0.0)
            } else {
                S::load_first(bias.add(first), lanes)
            };
            for (r, sum) in sums.iter().enumerate() {
                if r < m {
                    let out = out.add(r * out_row + first);
                    let start = match (add, WHOLE) {
                        (false, _) => start,
                        (true, true) => S::load(out),
                        (true, false) => S::load_first(out, lanes),
                    };
                    let value = S::add(sum[half], start);
                    if WHOLE {
                        S::store(out, value);
                    } else {
                        S::store_first(out, value, lanes);
                    }
                }
            }
        }
    }
}
