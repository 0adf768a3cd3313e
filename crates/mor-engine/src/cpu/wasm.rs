//! WebAssembly's 128-bit SIMD.
#![allow(unsafe_code)]

use std::arch::wasm32::*;

use half::f16;

use super::simd::{LANES, Simd};

/// Four 128-bit values.
#[derive(Clone, Copy)]
pub(crate) struct Simd128;

/// Applies an intrinsic to each of four parts. Spelled out: `array::map` is not inlined here, and a call
/// for each vector makes the kernels ten times slower.
macro_rules! each {
    ($f:expr, $($v:ident),+) => {
        [$f($($v[0]),+), $f($($v[1]),+), $f($($v[2]),+), $f($($v[3]),+)]
    };
}

// SAFETY of every function: the trait's contract gives valid pointers; the module is built with
// `simd128`, and its loads and stores need no alignment.
impl Simd for Simd128 {
    type V = [v128; 4];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [f32x4_splat(value); 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe {
            [
                v128_load(from.cast()),
                v128_load(from.add(4).cast()),
                v128_load(from.add(8).cast()),
                v128_load(from.add(12).cast()),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        let mut values = [0.0_f32; LANES];
        for (i, value) in values.iter_mut().enumerate() {
            *value = unsafe { from.add(i).read_unaligned() }.to_f32();
        }
        unsafe { Self::load(values.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe {
            v128_store(to.cast(), v[0]);
            v128_store(to.add(4).cast(), v[1]);
            v128_store(to.add(8).cast(), v[2]);
            v128_store(to.add(12).cast(), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each!(f32x4_add, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each!(f32x4_sub, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each!(f32x4_mul, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each!(f32x4_div, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each!(f32x4_pmax, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each!(f32x4_pmin, a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let product = each!(f32x4_mul, a, b);
        each!(f32x4_add, product, c)
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        let exponent = |n| i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127)), 23);
        each!(exponent, n)
    }
}
