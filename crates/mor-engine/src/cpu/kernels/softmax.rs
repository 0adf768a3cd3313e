//! Exponentials of logits.
#![allow(unsafe_code)]

use super::math;
use super::simd::LANES;
use mor_math::simd::Simd;

/// Writes `exp((x - top) * scale)` for `len` values and returns their sum.
///
/// # Safety
/// `x` and `out` are valid for `len` values.
#[inline(always)]
pub(crate) unsafe fn exponentials<S: Simd>(
    x: *const f32,
    top: f32,
    scale: f32,
    len: usize,
    out: *mut f32,
) -> f32 {
    let whole = len - len % LANES;
    // SAFETY: every index stays below `len`; the tail goes through arrays.
    unsafe {
        let of = |v: S::V| math::exp::<S>(S::mul(S::sub(v, S::splat(top)), S::splat(scale)));
        let mut total = S::splat(0.0);
        let mut i = 0;
        while i < whole {
            let e = of(S::load(x.add(i)));
            S::store(out.add(i), e);
            total = S::add(total, e);
            i += LANES;
        }
        let mut tail = [f32::MIN; LANES];
        for i in whole..len {
            tail[i - whole] = *x.add(i);
        }
        S::store(tail.as_mut_ptr(), of(S::load(tail.as_ptr())));
        let mut rest = 0.0;
        for i in whole..len {
            *out.add(i) = tail[i - whole];
            rest += tail[i - whole];
        }
        S::sum(total) + rest
    }
}
