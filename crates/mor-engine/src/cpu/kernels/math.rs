//! Exponential and error function on vectors, accurate to a few units in the last place of f32.
#![allow(unsafe_code)]

use mor_math::simd::Simd;

/// eˣ. Below -87 the result is eˉ⁸⁷, about 1e-38; above 88 it is e⁸⁸.
///
/// x = n·ln 2 + r with whole n and |r| ≤ ln 2 / 2; eʳ is a polynomial of degree 6 and 2ⁿ goes into the
/// exponent's bits.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // Adding and subtracting 1.5 · 2²³ rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    // SAFETY: arithmetic only; the caller has enabled the instruction set.
    unsafe {
        let x = S::max(S::min(x, S::splat(88.0)), S::splat(-87.0));
        let shifted = S::mul_add(x, S::splat(std::f32::consts::LOG2_E), S::splat(ROUND));
        let n = S::sub(shifted, S::splat(ROUND));
        // ln 2 in two parts, so that n · ln 2 is subtracted without losing bits.
        let r = S::mul_add(n, S::splat(-355.0 / 512.0), x);
        let r = S::mul_add(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ] {
            p = S::mul_add(p, r, S::splat(c));
        }
        let p = S::mul_add(S::mul(p, r), r, S::add(r, S::splat(1.0)));
        S::scale_by_power(p, n)
    }
}

/// erf(x), as a quotient of polynomials in x² on |x| < 3.8325, beyond which erf is ±1 in f32.
#[inline(always)]
pub(crate) unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    const LIMIT: f32 = 3.832_507;
    // SAFETY: arithmetic only; the caller has enabled the instruction set.
    unsafe {
        let x = S::max(S::min(x, S::splat(LIMIT)), S::splat(-LIMIT));
        let x2 = S::mul(x, x);
        let mut p = S::splat(2.290_506_6e-4);
        for c in [
            3.408_291e-3,
            5.095_569_6e-2,
            0.185_208_32,
            std::f32::consts::FRAC_2_SQRT_PI,
        ] {
            p = S::mul_add(p, x2, S::splat(c));
        }
        let mut q = S::splat(-1.179_160_3e-7);
        for c in [
            2.354_796_6e-5,
            1.017_962_5e-3,
            1.407_047e-2,
            0.110_985_05,
            0.497_469_25,
            1.0,
        ] {
            q = S::mul_add(q, x2, S::splat(c));
        }
        S::div(S::mul(x, p), q)
    }
}

/// The exact GELU, `x · (1 + erf(x / √2)) / 2`.
#[inline(always)]
pub(crate) unsafe fn gelu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic only; the caller has enabled the instruction set.
    unsafe {
        let e = erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2)));
        let half = S::mul(x, S::splat(0.5));
        S::mul_add(half, e, half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mor_math::simd::Portable;

    /// erf by its Taylor series around 0 (|x| ≤ 3.9, 80 terms), in f64.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn exp_and_erf_are_accurate() {
        for i in 0..4000 {
            let x = -4.0 + i as f32 * 0.002;
            // SAFETY: scalar code needs no instruction set.
            let (e, f) = unsafe { (exp::<Portable>([x * 20.0; 8]), erf::<Portable>([x; 8])) };
            let expected = f64::from(x * 20.0).exp();
            assert!((f64::from(e[0]) / expected - 1.0).abs() < 3e-7, "exp {x}");
            assert!(
                (f64::from(f[0]) - erf_series(f64::from(x))).abs() < 5e-7,
                "erf {x}"
            );
        }
    }
}
