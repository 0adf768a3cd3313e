//! Packing parts of both operands of a matrix product.
#![allow(unsafe_code)] // called by `matmul` only, within matrices and buffers that it has checked

use crate::matmul::{Job, LEFT, ROW_GAP};
use mor_math::simd::Simd;

/// Packs the block of the right matrix as panels `[k, 2 · LANES]`, filled up with zeros.
#[inline(always)]
pub(crate) unsafe fn pack_right<S: Simd>(
    job: &Job,
    cols: [usize; 2],
    inner: [usize; 2],
    right: *mut f32,
) {
    let panel = 2 * S::LANES;
    let k = inner[1] - inner[0];
    let n = cols[1] - cols[0];
    // SAFETY: columns and inner indices lie within the right matrix, partial loads leave out what is past its end, and the
    // buffer holds whole panels of `k` steps.
    unsafe {
        let from = job.rhs.add(inner[0] * job.rhs_row + cols[0] * job.rhs_col);
        if job.rhs_col == 1 {
            // Row by row, as memory comes, into all panels.
            for p in 0..k {
                let from = from.add(p * job.rhs_row);
                let mut col = 0;
                while col < n {
                    let to = right.add(col * k + p * panel);
                    let first = S::LANES.min(n - col);
                    let second = S::LANES.min(n - col - first);
                    S::store(to, S::load_first(from.add(col), first));
                    S::store(
                        to.add(S::LANES),
                        S::load_first(from.add(col + first), second),
                    );
                    col += panel;
                }
            }
        } else {
            let mut col = 0;
            while col < n.next_multiple_of(panel) {
                let count = n.saturating_sub(col).min(S::LANES);
                let from = from.add(col.min(n) * job.rhs_col);
                let to = right.add(col / panel * panel * k + col % panel);
                let mut p = 0;
                while p < k {
                    let depth = S::LANES.min(k - p);
                    S::transpose(
                        from.add(p),
                        job.rhs_col,
                        count,
                        depth,
                        to.add(p * panel),
                        panel,
                    );
                    p += S::LANES;
                }
                col += S::LANES;
            }
        }
    }
}

/// Packs `m` rows of a row-major left matrix, `ROW_GAP` apart.
#[inline(always)]
pub(crate) unsafe fn pack_left_rows(
    job: &Job,
    row: usize,
    m: usize,
    inner: [usize; 2],
    left: *mut f32,
) {
    for r in 0..m {
        // SAFETY: the row lies within the left matrix, and a panel has room for `TALL` such rows.
        unsafe {
            let from = job.lhs.add((row + r) * job.lhs_row + inner[0]);
            std::ptr::copy_nonoverlapping(from, left.add(r * ROW_GAP), inner[1] - inner[0]);
        }
    }
}

/// Packs rows of a transposed left matrix as panels `[k, R]`, `LEFT` apart, filled up with zeros.
#[inline(always)]
pub(crate) unsafe fn pack_left_columns<S: Simd, const R: usize>(
    job: &Job,
    rows: [usize; 2],
    inner: [usize; 2],
    left: *mut f32,
) {
    // SAFETY: rows and inner indices lie within the left matrix, partial loads leave out what is past its end, and each panel
    // has room for `R` numbers a step.
    unsafe {
        let from = job.lhs.add(rows[0] + inner[0] * job.lhs_col);
        for p in 0..inner[1] - inner[0] {
            let from = from.add(p * job.lhs_col);
            let mut to = left.add(p * R);
            let mut first = 0;
            while first < rows[1] - rows[0] {
                let x = S::load_first(from.add(first), R.min(rows[1] - rows[0] - first));
                S::store_first(to, x, R);
                first += R;
                to = to.add(LEFT);
            }
        }
    }
}

/// Rounds packed numbers to 16-bit floats; what is too large becomes infinite.
pub(crate) unsafe fn round_to_f16(packed: *mut f32, len: usize) {
    // SAFETY: the caller's buffer holds at least `len` numbers; scratch memory is always initialised.
    let packed = unsafe { std::slice::from_raw_parts_mut(packed, len) };
    for value in packed {
        *value = half::f16::from_f32(*value).to_f32();
    }
}
