//! Attention of one head of one sequence, from the same register tile as the matrix products.
//!
//! Queries go through in blocks of two vectors. Scores are kept transposed, `[keys, block]`, one
//! query a lane, so that the softmax needs no sums across lanes; the block's scores stay in the
//! second-level cache. The backward direction computes the probabilities again from the saved
//! logsumexp.
#![allow(unsafe_code)]
// Soundness: `attention` checks every length. Pointers below stay within one head of one sequence
// or within the scratch memory, whose parts `Layout` sizes for whole tiles.

use crate::attention::AttentionShape;
use crate::math::exp;
use crate::matmul::{finish, tile};
use crate::simd::{Simd, dispatch};

/// Widest head.
pub(crate) const MAX_HEAD_DIM: usize = 128;
/// Distance of packed rows: the widest head and a cache line.
const GAP: usize = MAX_HEAD_DIM + 16;
/// Widest block of queries, and widest panel of a head: two vectors of sixteen.
const BLOCK: usize = 32;
/// Rows of a tile over keys, with sixteen lanes and with eight.
const TALL: usize = 14;
const SHORT: usize = 6;
/// Rows of a tile over queries; each divides its block.
const TALL_QUERIES: usize = 8;
const SHORT_QUERIES: usize = 4;

/// Sizes of the parts of the scratch memory.
pub(crate) struct Layout {
    /// Rows of keys packed `GAP` apart, with room for a whole last tile.
    rows: usize,
    /// A matrix `[seq, head_dim]` as panels.
    panels: usize,
    /// Scores of one block of queries.
    scores: usize,
    /// One block of queries, transposed or as panels.
    block: usize,
}

impl Layout {
    pub(crate) fn of(shape: AttentionShape) -> Self {
        let keys = shape.seq.next_multiple_of(BLOCK) + BLOCK;
        let width = shape.head_dim.next_multiple_of(BLOCK);
        Self {
            rows: keys * GAP,
            panels: keys * width,
            scores: keys * BLOCK,
            block: BLOCK * width,
        }
    }

    pub(crate) fn forward_len(&self) -> usize {
        self.rows + self.panels + self.scores + self.block
    }

    pub(crate) fn backward_len(&self) -> usize {
        2 * self.rows + self.panels + 2 * self.scores + 4 * self.block
    }
}

/// The operands of the forward direction.
pub(crate) struct ForwardJob<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) q: *const f32,
    pub(crate) k: *const f32,
    pub(crate) v: *const f32,
    pub(crate) key_mask: Option<&'a [bool]>,
    pub(crate) out: *mut f32,
    pub(crate) logsumexp: *mut f32,
}

/// The operands of the backward direction.
pub(crate) struct BackwardJob<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) q: *const f32,
    pub(crate) k: *const f32,
    pub(crate) v: *const f32,
    pub(crate) key_mask: Option<&'a [bool]>,
    pub(crate) out: *const f32,
    pub(crate) logsumexp: *const f32,
    pub(crate) d_out: *const f32,
    pub(crate) dq: *mut f32,
    pub(crate) dk: *mut f32,
    pub(crate) dv: *mut f32,
}

// SAFETY: the pointers come from slices that outlive the tasks, and tasks write disjoint parts.
unsafe impl Sync for ForwardJob<'_> {}
unsafe impl Sync for BackwardJob<'_> {}

dispatch! {
    /// Head `index % heads` of sequence `index / heads`.
    pub(crate) fn forward(job: &ForwardJob<'_>, index: usize, scratch: *mut f32) = forward_body
}
dispatch! {
    /// Head `index % heads` of sequence `index / heads`.
    pub(crate) fn backward(job: &BackwardJob<'_>, index: usize, scratch: *mut f32) = backward_body
}

#[inline(always)]
unsafe fn forward_body<S: Simd>(job: &ForwardJob<'_>, index: usize, scratch: *mut f32) {
    let AttentionShape {
        seq,
        heads,
        head_dim,
        ..
    } = job.shape;
    let width = heads * head_dim;
    let (sequence, head) = (index / heads, index % heads);
    let block = 2 * S::LANES;
    let layout = Layout::of(job.shape);
    let mask = job
        .key_mask
        .map(|mask| &mask[sequence * seq..(sequence + 1) * seq]);
    unsafe {
        let offset = sequence * seq * width + head * head_dim;
        let out = job.out.add(offset);
        let logsumexp = job.logsumexp.add(index * seq);
        let k_rows = scratch;
        let v_panels = k_rows.add(layout.rows);
        let scores = v_panels.add(layout.panels);
        let q_block = scores.add(layout.scores);

        pack_rows::<S>(job.k.add(offset), seq, head_dim, width, k_rows);
        pack_panels::<S>(job.v.add(offset), seq, head_dim, width, v_panels);
        let mut start = 0;
        while start < seq {
            let queries = block.min(seq - start);
            let keys = start + queries;
            let q = job.q.add(offset + start * width);
            pack_transposed::<S>(q, queries, head_dim, width, q_block);
            key_tiles::<S>(keys, head_dim, k_rows, q_block, scores);
            let mut inverse = [0.0; BLOCK];
            let mut lse = [0.0; BLOCK];
            softmax::<S>(
                scores,
                start,
                keys,
                mask,
                job.shape.scale(),
                &mut inverse,
                &mut lse,
            );
            for (i, lse) in lse[..queries].iter().enumerate() {
                *logsumexp.add(start + i) = *lse;
            }
            let out = out.add(start * width);
            let values = Panels {
                at: v_panels,
                rows: seq,
                head_dim,
            };
            query_tiles::<S>(
                scores,
                [start, queries, keys],
                values,
                Some(&inverse),
                out,
                width,
            );
            start += block;
        }
    }
}

#[inline(always)]
unsafe fn backward_body<S: Simd>(job: &BackwardJob<'_>, index: usize, scratch: *mut f32) {
    let AttentionShape {
        seq,
        heads,
        head_dim,
        ..
    } = job.shape;
    let width = heads * head_dim;
    let (sequence, head) = (index / heads, index % heads);
    let block = 2 * S::LANES;
    let layout = Layout::of(job.shape);
    let mask = job
        .key_mask
        .map(|mask| &mask[sequence * seq..(sequence + 1) * seq]);
    unsafe {
        let offset = sequence * seq * width + head * head_dim;
        let (dq, dk, dv) = (job.dq.add(offset), job.dk.add(offset), job.dv.add(offset));
        let k_rows = scratch;
        let v_rows = k_rows.add(layout.rows);
        let k_panels = v_rows.add(layout.rows);
        let scores = k_panels.add(layout.panels);
        let d_scores = scores.add(layout.scores);
        let q_block = d_scores.add(layout.scores);
        let d_block = q_block.add(layout.block);
        let q_panels = d_block.add(layout.block);
        let d_panels = q_panels.add(layout.block);

        pack_rows::<S>(job.k.add(offset), seq, head_dim, width, k_rows);
        pack_rows::<S>(job.v.add(offset), seq, head_dim, width, v_rows);
        pack_panels::<S>(job.k.add(offset), seq, head_dim, width, k_panels);
        clear::<S>(dk, seq, head_dim, width);
        clear::<S>(dv, seq, head_dim, width);
        let mut start = 0;
        while start < seq {
            let queries = block.min(seq - start);
            let keys = start + queries;
            let at = offset + start * width;
            let (q, out, d_out) = (job.q.add(at), job.out.add(at), job.d_out.add(at));
            // Lanes past the last query get a probability of zero, as do queries that saw no key.
            let mut shift = [f32::NEG_INFINITY; BLOCK];
            let mut delta = [0.0; BLOCK];
            for i in 0..queries {
                let lse = *job.logsumexp.add(index * seq + start + i);
                if lse != f32::NEG_INFINITY {
                    shift[i] = -lse;
                }
                delta[i] = dot::<S>(out.add(i * width), d_out.add(i * width), head_dim);
            }
            pack_transposed::<S>(q, queries, head_dim, width, q_block);
            pack_transposed::<S>(d_out, queries, head_dim, width, d_block);
            pack_panels::<S>(q, queries, head_dim, width, q_panels);
            pack_panels::<S>(d_out, queries, head_dim, width, d_panels);
            key_tiles::<S>(keys, head_dim, k_rows, q_block, scores);
            key_tiles::<S>(keys, head_dim, v_rows, d_block, d_scores);
            let scale = job.shape.scale();
            softmax_gradient::<S>(scores, d_scores, start, keys, mask, scale, &shift, &delta);
            let dq = dq.add(start * width);
            let k = Panels {
                at: k_panels,
                rows: seq,
                head_dim,
            };
            query_tiles::<S>(d_scores, [start, queries, keys], k, None, dq, width);
            let q = Panels {
                at: q_panels,
                rows: queries,
                head_dim,
            };
            add_key_tiles::<S>(d_scores, keys, q, dk, width);
            let d_out = Panels {
                at: d_panels,
                rows: queries,
                head_dim,
            };
            add_key_tiles::<S>(scores, keys, d_out, dv, width);
            start += block;
        }
    }
}

/// Rows `[rows, head_dim]` as panels `[rows, 2 · LANES]` over the head's width.
#[derive(Clone, Copy)]
struct Panels {
    at: *const f32,
    rows: usize,
    head_dim: usize,
}

/// Copies rows `stride` apart to rows `GAP` apart.
#[inline(always)]
unsafe fn pack_rows<S: Simd>(
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
unsafe fn pack_panels<S: Simd>(
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
unsafe fn pack_transposed<S: Simd>(
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
unsafe fn clear<S: Simd>(to: *mut f32, rows: usize, cols: usize, stride: usize) {
    for row in 0..rows {
        let mut j = 0;
        while j < cols {
            let n = S::LANES.min(cols - j);
            unsafe { S::store_first(to.add(row * stride + j), S::splat(0.0), n) };
            j += S::LANES;
        }
    }
}

#[inline(always)]
unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, len: usize) -> f32 {
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

/// `scores[s, lane] = rows[s] · block[.., lane]` for all keys; the last tile writes past them.
#[inline(always)]
unsafe fn key_tiles<S: Simd>(
    keys: usize,
    head_dim: usize,
    rows: *const f32,
    block: *const f32,
    scores: *mut f32,
) {
    unsafe {
        if S::LANES == 16 {
            key_tiles_of::<S, TALL>(keys, head_dim, rows, block, scores);
        } else {
            key_tiles_of::<S, SHORT>(keys, head_dim, rows, block, scores);
        }
    }
}

#[inline(always)]
unsafe fn key_tiles_of<S: Simd, const R: usize>(
    keys: usize,
    head_dim: usize,
    rows: *const f32,
    block: *const f32,
    scores: *mut f32,
) {
    let mut s = 0;
    while s < keys {
        unsafe {
            let sums = tile::<S, R, GAP, 1>(head_dim, rows.add(s * GAP), block);
            let to = scores.add(s * 2 * S::LANES);
            let null = std::ptr::null();
            finish::<S, R, true>(2 * S::LANES, R, 2 * S::LANES, to, null, false, &sums);
        }
        s += R;
    }
}

/// `out[i] = Σ_s scores[s, i] · rows[s]` for the block's queries, times `factors` if any.
#[inline(always)]
unsafe fn query_tiles<S: Simd>(
    scores: *const f32,
    span: [usize; 3],
    rows: Panels,
    factors: Option<&[f32; BLOCK]>,
    out: *mut f32,
    width: usize,
) {
    unsafe {
        if S::LANES == 16 {
            query_tiles_of::<S, TALL_QUERIES, 32>(scores, span, rows, factors, out, width);
        } else {
            query_tiles_of::<S, SHORT_QUERIES, 16>(scores, span, rows, factors, out, width);
        }
    }
}

#[inline(always)]
unsafe fn query_tiles_of<S: Simd, const R: usize, const STEP: usize>(
    scores: *const f32,
    [start, queries, keys]: [usize; 3],
    rows: Panels,
    factors: Option<&[f32; BLOCK]>,
    out: *mut f32,
    width: usize,
) {
    let mut i = 0;
    while i < queries {
        // Later keys have zeros for all queries of this tile.
        let seen = keys.min(start + i + R);
        let mut col = 0;
        while col < rows.head_dim {
            let n = (2 * S::LANES).min(rows.head_dim - col);
            unsafe {
                let panel = rows.at.add(col * rows.rows);
                let mut sums = tile::<S, R, 1, STEP>(seen, scores.add(i), panel);
                if let Some(factors) = factors {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let factor = S::splat(factors[i + r]);
                        *sum = [S::mul(sum[0], factor), S::mul(sum[1], factor)];
                    }
                }
                let to = out.add(i * width + col);
                let m = R.min(queries - i);
                if n == 2 * S::LANES {
                    finish::<S, R, true>(width, m, n, to, std::ptr::null(), false, &sums);
                } else {
                    finish::<S, R, false>(width, m, n, to, std::ptr::null(), false, &sums);
                }
            }
            col += 2 * S::LANES;
        }
        i += R;
    }
}

/// `out[s] += Σ_i scores[s, i] · rows[i]` for all keys, over the block's queries.
#[inline(always)]
unsafe fn add_key_tiles<S: Simd>(
    scores: *const f32,
    keys: usize,
    rows: Panels,
    out: *mut f32,
    width: usize,
) {
    unsafe {
        if S::LANES == 16 {
            add_key_tiles_of::<S, TALL, 32>(scores, keys, rows, out, width);
        } else {
            add_key_tiles_of::<S, SHORT, 16>(scores, keys, rows, out, width);
        }
    }
}

#[inline(always)]
unsafe fn add_key_tiles_of<S: Simd, const R: usize, const ROW: usize>(
    scores: *const f32,
    keys: usize,
    rows: Panels,
    out: *mut f32,
    width: usize,
) {
    let mut s = 0;
    while s < keys {
        let m = R.min(keys - s);
        let mut col = 0;
        while col < rows.head_dim {
            let n = (2 * S::LANES).min(rows.head_dim - col);
            unsafe {
                let panel = rows.at.add(col * rows.rows);
                let sums = tile::<S, R, ROW, 1>(rows.rows, scores.add(s * ROW), panel);
                let to = out.add(s * width + col);
                if n == 2 * S::LANES {
                    finish::<S, R, true>(width, m, n, to, std::ptr::null(), true, &sums);
                } else {
                    finish::<S, R, false>(width, m, n, to, std::ptr::null(), true, &sums);
                }
            }
            col += 2 * S::LANES;
        }
        s += R;
    }
}

/// Positions of a block's lanes, to compare with.
static LANE_INDEX: [f32; BLOCK] = {
    let mut index = [0.0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        index[i] = i as f32;
        i += 1;
    }
    index
};

/// Replaces scores by unnormalised probabilities; gives one over their sums (zero where nothing is
/// seen) and the logsumexp of each lane.
#[inline(always)]
unsafe fn softmax<S: Simd>(
    scores: *mut f32,
    start: usize,
    keys: usize,
    mask: Option<&[bool]>,
    scale: f32,
    inverse: &mut [f32; BLOCK],
    logsumexp: &mut [f32; BLOCK],
) {
    let lowest = f32::NEG_INFINITY;
    for first in [0, S::LANES] {
        unsafe {
            let lane = S::load(LANE_INDEX.as_ptr().add(first));
            let at = scores.add(first);
            let mut max = S::splat(lowest);
            for s in 0..keys {
                if mask.is_some_and(|mask| !mask[s]) {
                    continue;
                }
                let mut x = S::load(at.add(s * 2 * S::LANES));
                if s > start {
                    x = S::select_less(lane, S::splat((s - start) as f32), S::splat(lowest), x);
                }
                max = S::max(max, x);
            }
            let max = S::mul(max, S::splat(scale));
            // A lane that sees nothing: any finite shift gives it zeros.
            let shift = S::sub(S::splat(0.0), max);
            let shift = S::select_less(max, S::splat(f32::MIN), S::splat(0.0), shift);
            let mut sum = S::splat(0.0);
            for s in 0..keys {
                let at = at.add(s * 2 * S::LANES);
                if mask.is_some_and(|mask| !mask[s]) {
                    S::store(at, S::splat(0.0));
                    continue;
                }
                let mut p = exp::<S>(S::mul_add(S::load(at), S::splat(scale), shift));
                if s > start {
                    p = S::select_less(lane, S::splat((s - start) as f32), S::splat(0.0), p);
                }
                S::store(at, p);
                sum = S::add(sum, p);
            }
            // The largest score alone contributes one, so a sum below is a lane that sees nothing.
            let reciprocal = S::div(S::splat(1.0), sum);
            let reciprocal = S::select_less(sum, S::splat(0.5), S::splat(0.0), reciprocal);
            S::store(inverse.as_mut_ptr().add(first), reciprocal);
            let mut sums = [0.0; BLOCK];
            S::store(sums.as_mut_ptr(), sum);
            S::store(logsumexp.as_mut_ptr().add(first), max);
            for i in 0..S::LANES {
                logsumexp[first + i] += sums[i].ln();
            }
        }
    }
}

/// Replaces scores by probabilities and the gradients of probabilities by those of scores.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn softmax_gradient<S: Simd>(
    scores: *mut f32,
    d_scores: *mut f32,
    start: usize,
    keys: usize,
    mask: Option<&[bool]>,
    scale: f32,
    shift: &[f32; BLOCK],
    delta: &[f32; BLOCK],
) {
    for first in [0, S::LANES] {
        unsafe {
            let lane = S::load(LANE_INDEX.as_ptr().add(first));
            let shift = S::load(shift.as_ptr().add(first));
            let delta = S::load(delta.as_ptr().add(first));
            let (zero, scale) = (S::splat(0.0), S::splat(scale));
            for s in 0..keys {
                let at = scores.add(s * 2 * S::LANES + first);
                let d_at = d_scores.add(s * 2 * S::LANES + first);
                if mask.is_some_and(|mask| !mask[s]) {
                    S::store(at, zero);
                    S::store(d_at, zero);
                    continue;
                }
                let mut p = exp::<S>(S::mul_add(S::load(at), scale, shift));
                if s > start {
                    p = S::select_less(lane, S::splat((s - start) as f32), zero, p);
                }
                S::store(at, p);
                let d = S::sub(S::load(d_at), delta);
                S::store(d_at, S::mul(S::mul(p, d), scale));
            }
        }
    }
}
