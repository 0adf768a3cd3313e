//! Rearranging one head's rows for the register tile.
#![allow(unsafe_code)] // called by `attention_kernel` only, within buffers that it has sized

use crate::attention_kernel::GAP;
use mor_math::simd::Simd;

/// Copies rows `stride` apart to rows `GAP` apart.
#[inline(always)]
pub(crate) unsafe fn pack_rows<S: Simd>(
    from: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
    to: *mut f32,
) {
    for row in 0..rows {
        let mut j = 0;
        while j < cols {
            let n = S::LANES.min(cols - j);
            // SAFETY: `j + n` is at most `cols`, which the row has; rows of `to` have room for whole vectors within `GAP`.
            unsafe {
                S::store(
                    to.add(row * GAP + j),
                    S::load_first(from.add(row * stride + j), n),
                );
            }
            j += S::LANES;
        }
    }
}

/// Copies rows `stride` apart to panels, filled up with zeros.
#[inline(always)]
pub(crate) unsafe fn pack_panels<S: Simd>(
    from: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
    to: *mut f32,
) {
    let panel = 2 * S::LANES;
    let mut col = 0;
    while col < cols {
        let first = S::LANES.min(cols - col);
        let second = (cols - col - first).min(S::LANES);
        for row in 0..rows {
            // SAFETY: `first + second` numbers from `col` on are in the row; `to` has room for whole panels.
            unsafe {
                let from = from.add(row * stride + col);
                let to = to.add(col * rows + row * panel);
                S::store(to, S::load_first(from, first));
                S::store(to.add(S::LANES), S::load_first(from.add(first), second));
            }
        }
        col += panel;
    }
}

/// Transposes up to two vectors' worth of rows into `[cols, 2 · LANES]`, filled up with zeros.
#[inline(always)]
pub(crate) unsafe fn pack_transposed<S: Simd>(
    from: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
    to: *mut f32,
) {
    for first in [0, S::LANES] {
        let m = rows.saturating_sub(first).min(S::LANES);
        let mut col = 0;
        while col < cols {
            let n = S::LANES.min(cols - col);
            // SAFETY: `m` rows from `first` on have `n` numbers from `col` on; `to` has room for two vectors a column.
            unsafe {
                let from = from.add(first.min(rows) * stride + col);
                let to = to.add(col * 2 * S::LANES + first);
                S::transpose(from, stride, m, n, to, 2 * S::LANES);
            }
            col += S::LANES;
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn clear<S: Simd>(to: *mut f32, rows: usize, cols: usize, stride: usize) {
    for row in 0..rows {
        let mut j = 0;
        while j < cols {
            let n = S::LANES.min(cols - j);
            // SAFETY: `j + n` is at most `cols`, which the row has.
            unsafe { S::store_first(to.add(row * stride + j), S::splat(0.0), n) };
            j += S::LANES;
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, len: usize) -> f32 {
    // SAFETY: `j + n` is at most `len`, which both have.
    unsafe {
        let mut sum = S::splat(0.0);
        let mut j = 0;
        while j < len {
            let n = S::LANES.min(len - j);
            sum = S::mul_add(S::load_first(a.add(j), n), S::load_first(b.add(j), n), sum);
            j += S::LANES;
        }
        S::sum(sum)
    }
}
