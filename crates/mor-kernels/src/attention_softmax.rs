//! The softmax over transposed scores, `[keys, block]` with one query a lane, and its gradient.
#![allow(unsafe_code)] // called by `attention_kernel` only, within buffers that it has sized

use crate::attention_kernel::BLOCK;
use crate::math::exp;
use mor_math::simd::Simd;

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
pub(crate) unsafe fn softmax<S: Simd>(
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
        // SAFETY: the table and the arrays have `BLOCK` numbers, two vectors at most, and `scores` two vectors a key.
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
pub(crate) unsafe fn softmax_gradient<S: Simd>(
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
        // SAFETY: the table and the arrays have `BLOCK` numbers, two vectors at most, and both kinds of scores two vectors
        // a key.
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
