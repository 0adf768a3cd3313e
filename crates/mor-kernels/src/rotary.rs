//! Rotary positions: each head's pairs `(i, i + head_dim / 2)` turn by `position · base^(-2i / head_dim)`.
#![allow(unsafe_code)] // vector code; every pointer stays within a sequence of checked length

use crate::attention::AttentionShape;
use crate::check::check_len;
use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::profile::{Kernel, timer};
use mor_math::simd::Simd;
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Rotates `x: [batch, seq, heads · head_dim]` in place, positions counting from 0 unless `positions: [batch, seq]`
/// says otherwise.
///
/// The last element of an odd `head_dim` stays as it is.
pub fn rotary_forward(shape: AttentionShape, base: f32, positions: Option<&[u32]>, x: &mut [f32]) {
    let _timer = timer(Kernel::Rotary);
    rotate(shape, base, positions, x, 1.0);
}

/// Turns the gradient of [`rotary_forward`]'s output into that of its input, in place: the same
/// rotation backwards.
pub fn rotary_backward(
    shape: AttentionShape,
    base: f32,
    positions: Option<&[u32]>,
    dx: &mut [f32],
) {
    let _timer = timer(Kernel::Rotary);
    rotate(shape, base, positions, dx, -1.0);
}

fn rotate(
    shape: AttentionShape,
    base: f32,
    positions: Option<&[u32]>,
    x: &mut [f32],
    direction: f32,
) {
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    check_len("x", x, &[batch, seq, heads, head_dim]);
    if x.is_empty() || head_dim < 2 {
        return;
    }
    // Tables are remembered by their length, so it is one of few.
    let length = match positions {
        Some(positions) => {
            assert_eq!(positions.len(), batch * seq, "a position for each row");
            let last = positions.iter().copied().max().unwrap_or(0);
            (last as usize + 1).next_power_of_two()
        }
        None => seq,
    };
    let table = table(length, head_dim, base);
    let isa = current_isa();
    x.par_chunks_mut(seq * heads * head_dim)
        .enumerate()
        .for_each(|(at, x)| {
            let positions = positions.map(|positions| &positions[at * seq..][..seq]);
            // SAFETY: `isa` is available, `x` is one sequence with as many positions, and the table reaches beyond all.
            unsafe { turn(isa, x, &table, positions, shape, direction) }
        });
}

dispatch! {
    fn turn(
        x: &mut [f32],
        table: &[f32],
        positions: Option<&[u32]>,
        shape: AttentionShape,
        direction: f32,
    ) = turn_body
}

#[inline(always)]
unsafe fn turn_body<S: Simd>(
    x: &mut [f32],
    table: &[f32],
    positions: Option<&[u32]>,
    shape: AttentionShape,
    direction: f32,
) {
    let AttentionShape {
        seq,
        heads,
        head_dim,
        ..
    } = shape;
    let half = head_dim / 2;
    for t in 0..seq {
        let position = positions.map_or(t, |positions| positions[t] as usize);
        for h in 0..heads {
            let mut i = 0;
            while i < half {
                let n = S::LANES.min(half - i);
                // SAFETY: `i + n <= half`, and both halves lie within the head.
                unsafe {
                    let low = x.as_mut_ptr().add((t * heads + h) * head_dim + i);
                    let high = low.add(half);
                    let angles = table.as_ptr().add(2 * position * half + i);
                    let cos = S::load_first(angles, n);
                    let sin = S::mul(S::load_first(angles.add(half), n), S::splat(direction));
                    let (a, b) = (S::load_first(low, n), S::load_first(high, n));
                    let turned = S::sub(S::mul(a, cos), S::mul(b, sin));
                    S::store_first(low, turned, n);
                    S::store_first(high, S::mul_add(a, sin, S::mul(b, cos)), n);
                }
                i += n;
            }
        }
    }
}

/// A position's cosines, then its sines, `[seq, 2, head_dim / 2]`; remembered, since every layer and
/// step asks for the same one and computing it takes longer than using it.
fn table(seq: usize, head_dim: usize, base: f32) -> Arc<[f32]> {
    /// Sequence length, head width and the bits of the base.
    type Key = (usize, usize, u32);
    static TABLES: Mutex<Vec<(Key, Arc<[f32]>)>> = Mutex::new(Vec::new());
    /// Batches come in a few lengths; the oldest table goes first.
    const KEPT: usize = 64;

    let key = (seq, head_dim, base.to_bits());
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, table)) = tables.iter().find(|(k, _)| *k == key) {
        return Arc::clone(table);
    }
    let half = head_dim / 2;
    let mut table = Vec::with_capacity(2 * seq * half);
    for t in 0..seq {
        let angles = || (0..half).map(|pair| mor_math::angle(t, pair, head_dim, f64::from(base)));
        table.extend(angles().map(|angle| angle.cos() as f32));
        table.extend(angles().map(|angle| angle.sin() as f32));
    }
    let table: Arc<[f32]> = table.into();
    if tables.len() >= KEPT {
        tables.remove(0);
    }
    tables.push((key, Arc::clone(&table)));
    table
}
