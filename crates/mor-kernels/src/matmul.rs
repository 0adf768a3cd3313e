//! Matrix products: packed panels and a register tile, as in Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication" (2008).
//!
//! A block of the right matrix, `[KC, NC]`, is packed into panels two vectors wide and stays in the
//! second-level cache; panels of a few rows of the left matrix are packed next to it and stay in the
//! first level while the right panels stream by. Every element of the result is the same chain of
//! additions whatever the number of threads, which divide the result between them.
#![allow(unsafe_code)]
// Soundness: `product` checks that both strides and the result fit their slices; all pointers below
// are derived from those, tasks write disjoint rectangles of the result, and packed buffers are
// sized for whole panels.

use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::matmul_pack::{pack_left_columns, pack_left_rows, pack_right, round_to_f16};
use crate::matmul_tile::{activate, finish, tile};
use crate::precision::MatmulPrecision;
use crate::scratch::{Slot, with_scratch};
use mor_math::Isa;
use mor_math::simd::Simd;
use rayon::prelude::*;

/// A matrix in memory with its two strides, counted in elements; one of them is 1.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `data: [rows, cols]`, read as it is.
    pub(crate) fn row_major(data: &'a [f32], cols: usize) -> Self {
        Self {
            data,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// `data: [rows, cols]`, read as its transpose.
    pub(crate) fn transposed(data: &'a [f32], cols: usize) -> Self {
        Self {
            data,
            row_stride: 1,
            col_stride: cols,
        }
    }

    fn fits(&self, rows: usize, cols: usize) -> bool {
        rows == 0
            || cols == 0
            || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing: the result is overwritten.
    Zero,
    /// One value per column.
    Bias(&'a [f32]),
    /// The result's present content.
    Accumulate,
}

/// Longest stretch of the inner dimension that is packed at a time.
const KC: usize = 512;
/// Distance of the rows of a packed left panel: `KC` and a cache line, so that rows do not all fall
/// into the same cache set.
pub(crate) const ROW_GAP: usize = KC + 16;
/// Size of a packed right block in elements: three quarters of a 1 MiB cache.
const BLOCK: usize = 192 * 1024;
/// Width of the widest right panel: two vectors of sixteen.
pub(crate) const PANEL: usize = 32;
/// Rows of a tile: with sixteen lanes 28 of 32 registers hold sums, with eight 12 of 16.
pub(crate) const TALL: usize = 14;
const SHORT: usize = 6;
/// Left panels packed together when they are columns in memory: row by row as memory comes, since
/// with one panel at a time most of each cache line would be thrown away before the next wants it.
pub(crate) const GROUP: usize = 147;
/// Room of one packed left panel.
pub(crate) const LEFT: usize = TALL * ROW_GAP;
/// Below this many multiplications a product stays on its thread.
const SMALL: usize = 64 * 64 * 64;

/// `out = lhs · rhs` plus what `start` says, with `[m, n, k]` the sizes of `[m, k] · [k, n]`.
pub(crate) fn product(
    precision: MatmulPrecision,
    sizes: [usize; 3],
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    out: &mut [f32],
    start: Start<'_>,
) {
    run(precision, sizes, lhs, rhs, out, start, None);
}

/// As [`product`], with `activated = gelu(out)` while the result is at hand.
pub(crate) fn product_gelu(
    precision: MatmulPrecision,
    sizes: [usize; 3],
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    out: &mut [f32],
    start: Start<'_>,
    activated: &mut [f32],
) {
    run(precision, sizes, lhs, rhs, out, start, Some(activated));
}

fn run(
    precision: MatmulPrecision,
    [m, n, k]: [usize; 3],
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
    out: &mut [f32],
    start: Start<'_>,
    activated: Option<&mut [f32]>,
) {
    assert!(
        lhs.fits(m, k) && rhs.fits(k, n) && out.len() == m * n,
        "matrix sizes disagree"
    );
    if let Some(activated) = &activated {
        assert_eq!(
            activated.len(),
            m * n,
            "the activation has the result's size"
        );
    }
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), n, "a bias has one value per column");
    }
    if m == 0 || n == 0 {
        return;
    }
    let isa = current_isa();
    let precision = precision.available();
    let job = Job {
        k,
        lhs: lhs.data.as_ptr(),
        lhs_row: lhs.row_stride,
        lhs_col: lhs.col_stride,
        rhs: rhs.data.as_ptr(),
        rhs_row: rhs.row_stride,
        rhs_col: rhs.col_stride,
        out: out.as_mut_ptr(),
        out_row: n,
        bias: if let Start::Bias(bias) = start {
            bias.as_ptr()
        } else {
            std::ptr::null()
        },
        accumulate: matches!(start, Start::Accumulate),
        activated: activated.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
        bf16: precision == MatmulPrecision::Bf16,
        f16: precision == MatmulPrecision::F16,
    };
    let threads = if m * n * k < SMALL {
        1
    } else {
        rayon::current_num_threads()
    };
    if threads == 1 {
        job.run(isa, [0, m], [0, n]);
    } else if m >= n {
        let step = stretch(m, threads, TALL);
        (0..m.div_ceil(step))
            .into_par_iter()
            .for_each(|i| job.run(isa, [i * step, m.min((i + 1) * step)], [0, n]));
    } else {
        let step = stretch(n, threads, PANEL);
        (0..n.div_ceil(step))
            .into_par_iter()
            .for_each(|i| job.run(isa, [0, m], [i * step, n.min((i + 1) * step)]));
    }
}

/// Length of a task's share of `total`: two tasks a thread where they are long, whole tiles each.
fn stretch(total: usize, threads: usize, tile: usize) -> usize {
    let tasks = if total >= threads * 1024 {
        2 * threads
    } else {
        threads
    };
    total.div_ceil(tasks).next_multiple_of(tile)
}

/// A product with its operands as pointers and strides.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) k: usize,
    pub(crate) lhs: *const f32,
    pub(crate) lhs_row: usize,
    pub(crate) lhs_col: usize,
    pub(crate) rhs: *const f32,
    pub(crate) rhs_row: usize,
    pub(crate) rhs_col: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_row: usize,
    pub(crate) bias: *const f32,
    pub(crate) accumulate: bool,
    /// Where the GELU of the result goes too, if anywhere (else null).
    pub(crate) activated: *mut f32,
    /// Whether operands are rounded to bfloat16.
    pub(crate) bf16: bool,
    /// Whether operands are rounded to 16-bit floats.
    pub(crate) f16: bool,
}

// SAFETY: the pointers come from slices that outlive the tasks, and tasks write disjoint parts.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// Computes the rectangle of the result between the given rows and columns.
    fn run(&self, isa: Isa, rows: [usize; 2], cols: [usize; 2]) {
        // A pair of bfloat16 takes the place of one number, so blocks go twice as deep.
        let longest = if self.bf16 { 2 * KC } else { KC };
        let depth = self
            .k
            .div_ceil(self.k.div_ceil(longest).max(1))
            .next_multiple_of(2);
        let packed = if self.bf16 { depth / 2 } else { depth };
        let total = cols[1] - cols[0];
        let width = (BLOCK / packed.max(64)).max(PANEL);
        let width = total
            .div_ceil(total.div_ceil(width))
            .next_multiple_of(PANEL);
        let left = if self.lhs_col == 1 {
            1
        } else {
            GROUP.min((rows[1] - rows[0]).div_ceil(SHORT))
        };
        with_scratch(Slot::PackedLeft, left * LEFT, |left| {
            with_scratch(Slot::PackedRight, packed * width, |right| {
                let (left, right) = (left.as_mut_ptr(), right.as_mut_ptr());
                let block = [depth, width];
                // SAFETY: `isa` is available, the rectangle lies within the checked matrices, and
                // the packed buffers hold whole panels.
                unsafe {
                    match self.bf16 {
                        #[cfg(target_arch = "x86_64")]
                        true => {
                            let (left, right) = (left.cast(), right.cast());
                            crate::matmul_bf16::rectangle(self, rows, cols, block, left, right);
                        }
                        _ => rectangle(isa, self, rows, cols, block, left, right),
                    }
                }
            });
        });
    }
}

dispatch! {
    fn rectangle(
        job: &Job,
        rows: [usize; 2],
        cols: [usize; 2],
        block: [usize; 2],
        left: *mut f32,
        right: *mut f32,
    ) = rectangle_body
}

#[inline(always)]
unsafe fn rectangle_body<S: Simd>(
    job: &Job,
    rows: [usize; 2],
    cols: [usize; 2],
    block: [usize; 2],
    left: *mut f32,
    right: *mut f32,
) {
    let tall = S::LANES == 16;
    let tile = if tall { TALL } else { SHORT };
    let group = if job.lhs_col == 1 {
        rows[1] - rows[0]
    } else {
        GROUP * tile
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
            pack_right::<S>(job, cols, inner, right);
            if job.f16 {
                let width = (cols[1] - cols[0]).next_multiple_of(2 * S::LANES);
                round_to_f16(right, (inner[1] - inner[0]) * width);
            }
            if job.lhs_col == 1 {
                let mut row = rows[0];
                while row < rows[1] {
                    let m = tile.min(rows[1] - row);
                    pack_left_rows(job, row, m, inner, left);
                    if job.f16 {
                        round_to_f16(left, (m - 1) * ROW_GAP + inner[1] - inner[0]);
                    }
                    if tall {
                        panels::<S, TALL, ROW_GAP, 1>(job, row, m, cols, inner, left, right);
                    } else {
                        panels::<S, SHORT, ROW_GAP, 1>(job, row, m, cols, inner, left, right);
                    }
                    row += m;
                }
            } else {
                if new_left && tall {
                    pack_left_columns::<S, TALL>(job, rows, inner, left);
                } else if new_left {
                    pack_left_columns::<S, SHORT>(job, rows, inner, left);
                }
                if new_left && job.f16 {
                    round_to_f16(left, (rows[1] - rows[0]).div_ceil(tile) * LEFT);
                }
                let mut row = rows[0];
                let mut left = left;
                while row < rows[1] {
                    let m = tile.min(rows[1] - row);
                    if tall {
                        panels::<S, TALL, 1, TALL>(job, row, m, cols, inner, left, right);
                    } else {
                        panels::<S, SHORT, 1, SHORT>(job, row, m, cols, inner, left, right);
                    }
                    row += m;
                    left = left.add(LEFT);
                }
            }
        }
    }
}

/// The order in which a rectangle's parts are computed: for each stretch of the inner dimension, for
/// each group of rows, every block of columns.
pub(crate) struct Blocks {
    rows: [usize; 2],
    cols: [usize; 2],
    inner: usize,
    sizes: [usize; 3],
    next: Option<[usize; 3]>,
}

/// One part: a group of rows, a block of columns, and a stretch of the inner dimension.
pub(crate) struct Part {
    pub(crate) rows: [usize; 2],
    pub(crate) cols: [usize; 2],
    pub(crate) inner: [usize; 2],
    /// Whether rows or stretch differ from the part before.
    pub(crate) new_left: bool,
}

impl Blocks {
    /// Parts of at most `depth` by `width` by `group` rows.
    #[inline(always)]
    pub(crate) fn new(
        job: &Job,
        rows: [usize; 2],
        cols: [usize; 2],
        [depth, width]: [usize; 2],
        group: usize,
    ) -> Self {
        let sizes = [depth.max(1), group, width];
        Self {
            rows,
            cols,
            inner: job.k,
            sizes,
            next: Some([0, rows[0], cols[0]]),
        }
    }

    #[inline(always)]
    pub(crate) fn next_part(&mut self) -> Option<Part> {
        let [inner, row, col] = self.next?;
        let [depth, group, width] = self.sizes;
        let ends = [self.inner.min(inner + depth), self.rows[1].min(row + group)];
        let end = self.cols[1].min(col + width);
        self.next = if end < self.cols[1] {
            Some([inner, row, end])
        } else if ends[1] < self.rows[1] {
            Some([inner, ends[1], self.cols[0]])
        } else if ends[0] < self.inner {
            Some([ends[0], self.rows[0], self.cols[0]])
        } else {
            None
        };
        Some(Part {
            rows: [row, ends[1]],
            cols: [col, end],
            inner: [inner, ends[0]],
            new_left: col == self.cols[0],
        })
    }
}

/// One packed left panel against all packed right panels of the block.
#[inline(always)]
unsafe fn panels<S: Simd, const R: usize, const ROW: usize, const STEP: usize>(
    job: &Job,
    row: usize,
    m: usize,
    cols: [usize; 2],
    inner: [usize; 2],
    left: *const f32,
    right: *const f32,
) {
    let panel = 2 * S::LANES;
    let k = inner[1] - inner[0];
    let add = job.accumulate || inner[0] > 0;
    let mut col = cols[0];
    let mut right = right;
    while col < cols[1] {
        let n = panel.min(cols[1] - col);
        // SAFETY: the panels hold `k` steps of whole tiles; `m` rows and `n` columns of the result, of the GELU and of the bias
        // lie within what `Job` was checked for.
        unsafe {
            let sums = tile::<S, R, ROW, STEP>(k, left, right);
            let out = job.out.add(row * job.out_row + col);
            let bias = if add || job.bias.is_null() {
                std::ptr::null()
            } else {
                job.bias.add(col)
            };
            if n == panel {
                finish::<S, R, true>(job.out_row, m, n, out, bias, add, &sums);
            } else {
                finish::<S, R, false>(job.out_row, m, n, out, bias, add, &sums);
            }
            if !job.activated.is_null() && inner[1] == job.k {
                activate::<S>(job, row, m, col, n);
            }
            right = right.add(k * panel);
        }
        col += n;
    }
}
