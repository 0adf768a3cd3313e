//! Longer vectors of several registers.
#![allow(unsafe_code)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block calls the same function of the parts, within the same contract"
)]
// Adapters of iterators are not always inlined into code for an instruction set, and a call for each vector makes kernels
// ten times slower.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::Simd;

/// `N` vectors of `S` as one, `N` a power of two.
#[derive(Clone, Copy)]
pub struct Wide<S, const N: usize>(PhantomData<S>);

/// Calls a function of `S` for each part of its arguments.
macro_rules! each {
    ($f:ident, $first:ident $(, $more:ident)*) => {{
        let mut out = $first;
        for i in 0..N {
            out[i] = unsafe { S::$f($first[i] $(, $more[i])*) };
        }
        out
    }};
}

impl<S: Simd, const N: usize> Simd for Wide<S, N> {
    type V = [S::V; N];
    const LANES: usize = N * S::LANES;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { [S::splat(x); N] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        let mut out = unsafe { [S::splat(0.0); N] };
        for i in 0..N {
            out[i] = unsafe { S::load(from.add(i * S::LANES)) };
        }
        out
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self::V) {
        for i in 0..N {
            unsafe { S::store(to.add(i * S::LANES), x[i]) };
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V {
        let mut out = unsafe { [S::splat(0.0); N] };
        for i in 0..N {
            let left = n.saturating_sub(i * S::LANES);
            // The pointer may lie past the end where nothing is left.
            out[i] = unsafe { S::load_first(from.wrapping_add(i * S::LANES), left.min(S::LANES)) };
        }
        out
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, x: Self::V, n: usize) {
        for i in 0..N {
            let left = n.saturating_sub(i * S::LANES);
            unsafe { S::store_first(to.wrapping_add(i * S::LANES), x[i], left.min(S::LANES)) };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each!(add, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each!(sub, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each!(mul, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each!(div, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each!(max, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each!(min, a, b)
    }
    #[inline(always)]
    unsafe fn sqrt(x: Self::V) -> Self::V {
        each!(sqrt, x)
    }
    #[inline(always)]
    unsafe fn abs(x: Self::V) -> Self::V {
        each!(abs, x)
    }
    #[inline(always)]
    unsafe fn round(x: Self::V) -> Self::V {
        each!(round, x)
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        each!(mul_add, a, b, c)
    }
    #[inline(always)]
    unsafe fn scale_by_power(x: Self::V, n: Self::V) -> Self::V {
        each!(scale_by_power, x, n)
    }
    #[inline(always)]
    unsafe fn select_less(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        each!(select_less, a, b, yes, no)
    }
    #[inline(always)]
    unsafe fn sum(x: Self::V) -> f32 {
        let mut parts = x;
        let mut width = N / 2;
        while width > 0 {
            for i in 0..width {
                parts[i] = unsafe { S::add(parts[i], parts[i + width]) };
            }
            width /= 2;
        }
        unsafe { S::sum(parts[0]) }
    }
    #[inline(always)]
    unsafe fn max_lane(x: Self::V) -> f32 {
        let mut largest = x[0];
        for i in 1..N {
            largest = unsafe { S::max(largest, x[i]) };
        }
        unsafe { S::max_lane(largest) }
    }
}
