//! Layer normalisation.
#![allow(unsafe_code)]

use super::simd::LANES;
use mor_math::simd::Simd;

/// `out = (y - mean(y)) / sqrt(var(y) + eps) * gain + bias` with `y = x + add`, over `dim` values.
/// `add` may be null; `out` may be `x`.
///
/// # Safety
/// All other pointers are valid for `dim` values.
#[inline(always)]
pub(crate) unsafe fn add_norm<S: Simd>(
    x: *const f32,
    add: *const f32,
    gain: *const f32,
    bias: *const f32,
    eps: f32,
    dim: usize,
    out: *mut f32,
) {
    let whole = dim - dim % LANES;
    // SAFETY: every index stays below `dim`.
    unsafe {
        let mut total = S::splat(0.0);
        let mut tail_total = 0.0;
        let mut i = 0;
        while i < whole {
            let mut y = S::load(x.add(i));
            if !add.is_null() {
                y = S::add(y, S::load(add.add(i)));
            }
            S::store(out.add(i), y);
            total = S::add(total, y);
            i += LANES;
        }
        for i in whole..dim {
            let y = *x.add(i) + if add.is_null() { 0.0 } else { *add.add(i) };
            *out.add(i) = y;
            tail_total += y;
        }
        let mean = (S::sum(total) + tail_total) / dim as f32;

        let mut squares = S::splat(0.0);
        let mut tail_squares = 0.0;
        let mut i = 0;
        while i < whole {
            let centred = S::sub(S::load(out.add(i)), S::splat(mean));
            squares = S::mul_add(centred, centred, squares);
            i += LANES;
        }
        for i in whole..dim {
            let centred = *out.add(i) - mean;
            tail_squares += centred * centred;
        }
        let variance = (S::sum(squares) + tail_squares) / dim as f32;
        let scale = 1.0 / (variance + eps).sqrt();

        let mut i = 0;
        while i < whole {
            let centred = S::sub(S::load(out.add(i)), S::splat(mean));
            let scaled = S::mul(centred, S::mul(S::splat(scale), S::load(gain.add(i))));
            S::store(out.add(i), S::add(scaled, S::load(bias.add(i))));
            i += LANES;
        }
        for i in whole..dim {
            *out.add(i) = (*out.add(i) - mean) * (scale * *gain.add(i)) + *bias.add(i);
        }
    }
}
