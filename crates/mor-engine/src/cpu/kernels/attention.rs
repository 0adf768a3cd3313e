//! One query of one head against its cache.
#![allow(unsafe_code)]

use super::math;
use super::matmul::panel_vector;
use super::simd::{LANES, Widen};

/// Added to the score of a hidden key.
pub(crate) const HIDDEN: f32 = -1e30;

/// One attention query. Keys lie in panels of 16 positions, `[position / 16][head_dim][16]`, and
/// values in panels of 16 channels, `[channel / 16][capacity][16]`: both products are then the
/// panel product of the weights, without horizontal sums.
#[derive(Clone, Copy)]
pub(crate) struct Query {
    /// The query, rotated and scaled by `1 / sqrt(head_dim)`.
    pub(crate) q: *const f32,
    pub(crate) keys: *const f32,
    pub(crate) values: *const f32,
    /// Per position, whole panels: 0, or [`HIDDEN`] for a key nobody sees.
    pub(crate) mask: *const f32,
    /// Positions `0..len` are visible: the past and the query's own.
    pub(crate) len: usize,
    pub(crate) head_dim: usize,
    /// Positions a value panel has room for.
    pub(crate) capacity: usize,
    /// Scratch, whole panels of positions.
    pub(crate) scores: *mut f32,
    /// Result, whole panels of channels.
    pub(crate) out: *mut f32,
}

/// `out = softmax(q · keys + mask) · values`; zero where every key is hidden.
///
/// # Safety
/// The pointers are valid for the shapes above.
#[inline(always)]
pub(crate) unsafe fn attend<S: Widen, const ACC: usize>(query: &Query) {
    let Query {
        len,
        head_dim,
        scores,
        ..
    } = *query;
    let (panels, channels) = (len.div_ceil(LANES), head_dim.div_ceil(LANES));
    // SAFETY: every offset stays inside the shapes of the contract.
    unsafe {
        let mut highest = S::splat(f32::MIN);
        for panel in 0..panels {
            let keys = query.keys.add(panel * head_dim * LANES);
            let score = panel_vector::<S, f32, ACC>(keys, query.q, head_dim);
            let score = S::add(score, S::load(query.mask.add(panel * LANES)));
            S::store(scores.add(panel * LANES), score);
            if (panel + 1) * LANES <= len {
                highest = S::max(highest, score);
            }
        }
        // The last panel may hold positions after the query's own.
        let mut top = S::max_lane(highest);
        for position in len - len % LANES..len {
            top = top.max(*scores.add(position));
        }
        for position in len..panels * LANES {
            *scores.add(position) = f32::MIN;
        }
        if top <= HIDDEN / 2.0 {
            for channel in 0..channels {
                S::store(query.out.add(channel * LANES), S::splat(0.0));
            }
            return;
        }
        let mut total = S::splat(0.0);
        for panel in 0..panels {
            let at = scores.add(panel * LANES);
            let e = math::exp::<S>(S::sub(S::load(at), S::splat(top)));
            S::store(at, e);
            total = S::add(total, e);
        }
        let scale = S::splat(1.0 / S::sum(total));
        for channel in 0..channels {
            let values = query.values.add(channel * query.capacity * LANES);
            let mixed = panel_vector::<S, f32, ACC>(values, scores, len);
            S::store(query.out.add(channel * LANES), S::mul(mixed, scale));
        }
    }
}
