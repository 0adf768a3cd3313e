//! Rotary positions: each head's pairs `(i, i + head_dim / 2)` turn by `position · base^(-2i / head_dim)`.

use crate::attention::AttentionShape;
use crate::check::check_len;
use rayon::prelude::*;

/// Rotates `x: [batch, seq, heads · head_dim]` in place, positions counting from 0.
///
/// The last element of an odd `head_dim` stays as it is.
pub fn rotary_forward(shape: AttentionShape, base: f32, x: &mut [f32]) {
    rotate(shape, base, x, 1.0);
}

/// Turns the gradient of [`rotary_forward`]'s output into that of its input, in place: the same
/// rotation backwards.
pub fn rotary_backward(shape: AttentionShape, base: f32, dx: &mut [f32]) {
    rotate(shape, base, dx, -1.0);
}

fn rotate(shape: AttentionShape, base: f32, x: &mut [f32], direction: f32) {
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    check_len("x", x, &[batch, seq, heads, head_dim]);
    let half = head_dim / 2;
    if x.is_empty() || half == 0 {
        return;
    }
    // Angles in f64: at position 1000 an f32 angle has already lost three digits.
    let table: Vec<(f32, f32)> = (0..seq)
        .flat_map(|t| {
            (0..half).map(move |i| {
                let angle = t as f64 * f64::from(base).powf(-2.0 * i as f64 / head_dim as f64);
                (angle.cos() as f32, angle.sin() as f32 * direction)
            })
        })
        .collect();
    x.par_chunks_mut(heads * head_dim)
        .enumerate()
        .with_min_len(32)
        .for_each(|(row, x)| {
            let angles = &table[(row % seq) * half..][..half];
            for head in x.chunks_exact_mut(head_dim) {
                let (low, high) = head.split_at_mut(half);
                for ((a, b), &(cos, sin)) in low.iter_mut().zip(high).zip(angles) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        });
}
