//! Arm's NEON.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use half::f16;

use super::simd::{LANES, Simd};

/// Four 128-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// Applies an intrinsic to each of four registers; spelled out, since `array::map` may not be inlined.
macro_rules! each {
    ($f:expr, $($v:ident),+) => {
        unsafe { [$f($($v[0]),+), $f($($v[1]),+), $f($($v[2]),+), $f($($v[3]),+)] }
    };
}

// SAFETY of every function: the trait's contract gives valid pointers, and NEON is part of the
// aarch64 baseline; its loads and stores need no alignment.
impl Simd for Neon {
    type V = [float32x4_t; 4];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe {
            [
                vld1q_f32(from),
                vld1q_f32(from.add(4)),
                vld1q_f32(from.add(8)),
                vld1q_f32(from.add(12)),
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
        for (i, part) in v.into_iter().enumerate() {
            unsafe { vst1q_f32(to.add(4 * i), part) };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each!(vaddq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each!(vsubq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each!(vmulq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each!(vdivq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each!(vmaxq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each!(vminq_f32, a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        each!(vfmaq_f32, c, a, b)
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        let exponent = |n| unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        };
        [
            exponent(n[0]),
            exponent(n[1]),
            exponent(n[2]),
            exponent(n[3]),
        ]
    }
}
