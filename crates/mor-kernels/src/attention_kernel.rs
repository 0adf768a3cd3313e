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
use crate::attention_pack::{clear, dot, pack_panels, pack_rows, pack_transposed};
use crate::attention_softmax::{softmax, softmax_gradient};
use crate::dispatch::dispatch;
use crate::matmul_tile::{finish, tile};
use mor_math::simd::Simd;

/// Widest head.
pub(crate) const MAX_HEAD_DIM: usize = 128;
/// Distance of packed rows: the widest head and a cache line.
pub(crate) const GAP: usize = MAX_HEAD_DIM + 16;
/// Widest block of queries, and widest panel of a head: two vectors of sixteen.
pub(crate) const BLOCK: usize = 32;
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
// SAFETY: as above, the results of this job being the gradients.
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
    // SAFETY: `index` names a head of a sequence of the checked operands, and the job gives this task alone the rows of its
    // results; `scratch` has `Layout::forward_len` numbers, whose parts follow each other.
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
    // SAFETY: `index` names a head of a sequence of the checked operands, and the job gives this task alone the rows of its
    // results; `scratch` has `Layout::backward_len` numbers, whose parts follow each other.
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

/// `scores[s, lane] = rows[s] · block[.., lane]` for all keys; the last tile writes past them.
#[inline(always)]
unsafe fn key_tiles<S: Simd>(
    keys: usize,
    head_dim: usize,
    rows: *const f32,
    block: *const f32,
    scores: *mut f32,
) {
    // SAFETY: the caller's contract is that of the function called, which takes the same memory.
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
        // SAFETY: `rows` and `scores` have room for a whole last tile of `R <= BLOCK` keys, `block` for `head_dim` times two
        // vectors.
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
    // SAFETY: the caller's contract is that of the function called, which takes the same memory.
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
            // SAFETY: `R` divides the block, so `i + R` queries have scores; the panel holds `rows` times two vectors from `col` on,
            // of which `seen` are read; `m` rows and `n` columns lie within the result.
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
    // SAFETY: the caller's contract is that of the function called, which takes the same memory.
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
            // SAFETY: the scores have room for a whole last tile of keys, the panel holds `rows` times two vectors from `col` on; `m`
            // rows and `n` columns lie within the result.
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
