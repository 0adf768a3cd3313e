//! Matrix products with operands rounded to bfloat16 and sums in `f32`, at twice the speed.
//!
//! The same blocks and tiles as in `matmul`, but packed panels hold pairs of neighbours along the
//! inner dimension, which one AVX-512 instruction multiplies and adds.
#![allow(unsafe_code)]
// Soundness: called by `matmul` only, on a CPU with AVX-512 BF16 (`is_available`), with pointers and
// sizes that it has checked, and with packed buffers that hold whole panels of pairs.

use crate::matmul::{Blocks, GROUP, Job, LEFT, PANEL, Part, ROW_GAP, TALL};
use crate::matmul_tile::{activate, finish};
use mor_math::simd::Avx512;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Whether this CPU multiplies bfloat16 numbers.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| is_x86_feature_detected!("avx512bf16"))
}

/// As `rectangle` of `matmul`; `left` and `right` hold pairs, each in the place of one number.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(crate) unsafe fn rectangle(
    job: &Job,
    rows: [usize; 2],
    cols: [usize; 2],
    block: [usize; 2],
    left: *mut u32,
    right: *mut u32,
) {
    let group = if job.lhs_col == 1 {
        rows[1] - rows[0]
    } else {
        GROUP * TALL
    };
    let mut blocks = Blocks::new(job, rows, cols, block, group);
    while let Some(Part {
        rows,
        cols,
        inner,
        new_left,
    }) = blocks.next_part()
    {
        // SAFETY: the part lies within the caller's rectangle of checked matrices, and the packed buffers hold whole panels of a
        // part.
        unsafe {
            pack_right(job, cols, inner, right);
            if job.lhs_col != 1 && new_left {
                pack_left_columns(job, rows, inner, left);
            }
            for (i, row) in (rows[0]..rows[1]).step_by(TALL).enumerate() {
                let m = TALL.min(rows[1] - row);
                if job.lhs_col == 1 {
                    pack_left_rows(job, row, m, inner, left);
                    panels::<ROW_GAP, 1>(job, row, m, cols, inner, left, right);
                } else {
                    panels::<1, TALL>(job, row, m, cols, inner, left.add(i * LEFT), right);
                }
            }
        }
    }
}

#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// Packs the block of the right matrix as panels of pairs `[⌈k / 2⌉, PANEL]`, filled with zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pack_right(job: &Job, cols: [usize; 2], inner: [usize; 2], right: *mut u32) {
    let k = inner[1] - inner[0];
    let pairs = k.div_ceil(2);
    let n = cols[1] - cols[0];
    // SAFETY: columns and inner indices of the part lie within the right matrix, masks leave out what is past its end, and the
    // buffer holds whole panels.
    unsafe {
        let from = job.rhs.add(inner[0] * job.rhs_row + cols[0] * job.rhs_col);
        // Where column `col` of the first pair goes; panels follow each other.
        let place = |col: usize| col / PANEL * PANEL * pairs + col % PANEL;
        if job.rhs_col == 1 {
            for p in 0..pairs {
                let from = from.add(2 * p * job.rhs_row);
                for col in (0..n.next_multiple_of(PANEL)).step_by(16) {
                    let count = n.saturating_sub(col).min(16);
                    let x = interleave(from.add(col.min(n)), job.rhs_row, k - 2 * p, count);
                    _mm512_storeu_si512(right.add(place(col) + p * PANEL).cast(), x);
                }
            }
        } else {
            for col in (0..n.next_multiple_of(PANEL)).step_by(16) {
                let count = n.saturating_sub(col).min(16);
                let from = from.add(col.min(n) * job.rhs_col);
                for p in (0..pairs).step_by(16) {
                    let to = right.add(place(col) + p * PANEL);
                    transpose_pairs(from.add(2 * p), job.rhs_col, count, k - 2 * p, to);
                }
            }
        }
    }
}

/// Packs `m` rows of a row-major left matrix as pairs, `ROW_GAP` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pack_left_rows(job: &Job, row: usize, m: usize, inner: [usize; 2], left: *mut u32) {
    let k = inner[1] - inner[0];
    for r in 0..m {
        // SAFETY: the row lies within the left matrix, what is past its end is masked, and a panel has room for `TALL` rows.
        unsafe {
            let from = job.lhs.add((row + r) * job.lhs_row + inner[0]);
            let mut p = 0;
            while p < k {
                let to = left.add(r * ROW_GAP + p / 2);
                _mm512_storeu_si512(to.cast(), sixteen_pairs(from.add(p), k - p));
                p += 32;
            }
        }
    }
}

/// Packs rows of a transposed left matrix as panels of pairs `[⌈k / 2⌉, TALL]`, `LEFT` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pack_left_columns(job: &Job, rows: [usize; 2], inner: [usize; 2], left: *mut u32) {
    let k = inner[1] - inner[0];
    for p in 0..k.div_ceil(2) {
        for (i, row) in (rows[0]..rows[1]).step_by(TALL).enumerate() {
            // SAFETY: rows and inner indices of the part lie within the left matrix, what is past them is masked, and each panel has
            // room for `TALL` pairs a step.
            unsafe {
                let from = job.lhs.add(row + (inner[0] + 2 * p) * job.lhs_col);
                let x = interleave(from, job.lhs_col, k - 2 * p, TALL.min(rows[1] - row));
                let to = left.add(i * LEFT + p * TALL);
                _mm512_mask_storeu_epi32(to.cast(), first_lanes(TALL), x);
            }
        }
    }
}

/// The next 32 of `left` numbers in a row, rounded, in order: sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn sixteen_pairs(from: *const f32, left: usize) -> __m512i {
    // SAFETY: masks leave out all but `left` numbers, which the caller has; `wrapping_add` may leave them, unread.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first_lanes(left), from);
        let high =
            _mm512_maskz_loadu_ps(first_lanes(left.saturating_sub(16)), from.wrapping_add(16));
        as_integers(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// `n` pairs of a number and the one `stride` further on (zero where `left` is one), rounded.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn interleave(from: *const f32, stride: usize, left: usize, n: usize) -> __m512i {
    // SAFETY: masks leave out all but `n` numbers, of the second row only where the caller has one; the table has 32 entries.
    unsafe {
        let even = _mm512_maskz_loadu_ps(first_lanes(n), from);
        let odd = if left > 1 {
            _mm512_maskz_loadu_ps(first_lanes(n), from.add(stride))
        } else {
            _mm512_setzero_ps()
        };
        // All even ones, then all odd ones; the permutation alternates them.
        let both = as_integers(_mm512_cvtne2ps_pbh(odd, even));
        let order = _mm512_loadu_si512(ALTERNATE.as_ptr().cast());
        _mm512_permutexvar_epi16(order, both)
    }
}

static ALTERNATE: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 16 {
        order[2 * i] = i as u16;
        order[2 * i + 1] = 16 + i as u16;
        i += 1;
    }
    order
};

/// Transposes `m` rows of up to sixteen pairs, `stride` numbers apart, into rows `PANEL` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn transpose_pairs(from: *const f32, stride: usize, m: usize, left: usize, to: *mut u32) {
    use mor_math::simd::Simd;
    let mut rows = [0_u32; 16 * 16];
    // SAFETY: `m <= 16` rows have `left` numbers each; `rows` has room for 16 vectors, and `to` for 16 rows of pairs.
    unsafe {
        for i in 0..m {
            let x = sixteen_pairs(from.add(i * stride), left);
            _mm512_storeu_si512(rows.as_mut_ptr().add(i * 16).cast(), x);
        }
        // Pairs move like numbers: the transposition only copies bits.
        let cols = left.div_ceil(2).min(16);
        Avx512::transpose(rows.as_ptr().cast(), 16, m, cols, to.cast(), PANEL);
    }
}

/// One packed left panel against all packed right panels of the block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn panels<const ROW: usize, const STEP: usize>(
    job: &Job,
    row: usize,
    m: usize,
    cols: [usize; 2],
    inner: [usize; 2],
    left: *const u32,
    mut right: *const u32,
) {
    let pairs = (inner[1] - inner[0]).div_ceil(2);
    let add = job.accumulate || inner[0] > 0;
    let mut col = cols[0];
    while col < cols[1] {
        let n = PANEL.min(cols[1] - col);
        // SAFETY: the panels hold `pairs` steps of whole tiles; `m` rows and `n` columns of the result and of the bias lie within
        // what `Job` was checked for.
        unsafe {
            let sums = tile::<ROW, STEP>(pairs, left, right);
            let out = job.out.add(row * job.out_row + col);
            let bias = if add || job.bias.is_null() {
                std::ptr::null()
            } else {
                job.bias.add(col)
            };
            if n == PANEL {
                finish::<Avx512, TALL, true>(job.out_row, m, n, out, bias, add, &sums);
            } else {
                finish::<Avx512, TALL, false>(job.out_row, m, n, out, bias, add, &sums);
            }
            if !job.activated.is_null() && inner[1] == job.k {
                activate_tile(job, row, m, col, n);
            }
            right = right.add(pairs * PANEL);
        }
        col += n;
    }
}

/// Out of line, so that the tile's sums stay in registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn activate_tile(job: &Job, row: usize, m: usize, col: usize, n: usize) {
    // SAFETY: the caller's contract is that of the function called.
    unsafe { activate::<Avx512>(job, row, m, col, n) }
}

/// The register tile; the pair `(r, p)` of the left panel is at `r · ROW + p · STEP`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn tile<const ROW: usize, const STEP: usize>(
    pairs: usize,
    mut left: *const u32,
    mut right: *const u32,
) -> [[__m512; 2]; TALL] {
    // SAFETY: the left panel has `TALL` rows and the right one two vectors for each of `pairs` steps.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; TALL];
        for _ in 0..pairs {
            let b0 = as_pairs(_mm512_loadu_si512(right.cast()));
            let b1 = as_pairs(_mm512_loadu_si512(right.add(16).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = as_pairs(_mm512_set1_epi32(*left.add(r * ROW) as i32));
                sum[0] = _mm512_dpbf16_ps(sum[0], a, b0);
                sum[1] = _mm512_dpbf16_ps(sum[1], a, b1);
            }
            left = left.add(STEP);
            right = right.add(PANEL);
        }
        sums
    }
}

#[inline(always)]
fn as_pairs(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid patterns.
    unsafe { std::mem::transmute(x) }
}

#[inline(always)]
fn as_integers(x: __m512bh) -> __m512i {
    // SAFETY: both are 512 bits without invalid patterns.
    unsafe { std::mem::transmute(x) }
}
