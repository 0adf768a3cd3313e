//! Arm's NEON.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::q8::{Dot, InputBlock, QUADS};
use super::simd::Simd;

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
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]
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
        unsafe {
            let (low, high) = (vld1q_u16(from.cast()), vld1q_u16(from.add(8).cast()));
            [
                widened(vget_low_u16(low)),
                widened(vget_high_u16(low)),
                widened(vget_low_u16(high)),
                widened(vget_high_u16(high)),
            ]
        }
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

/// f32 of four f16. Stable Rust has no type for the intrinsic yet.
#[inline(always)]
fn widened(halves: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: registers only, and every aarch64 processor has the instruction.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// Products of bytes in 16 bits, added up in pairs: every aarch64 processor can.
pub(crate) struct Widening;

impl Dot<Neon> for Widening {
    #[inline(always)]
    unsafe fn block<const T: usize>(
        weights: *const i8,
        inputs: *const InputBlock,
    ) -> [[float32x4_t; 4]; T] {
        // SAFETY: by the trait's contract.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); 8]; T];
            for quad in 0..QUADS {
                for part in 0..4 {
                    let w = vld1q_s8(weights.add(64 * quad + 16 * part));
                    for token in 0..T {
                        let x = vdup_n_s32(InputBlock::quad(inputs.add(token), quad));
                        let x = vreinterpret_s8_s32(x);
                        let low = vmull_s8(vget_low_s8(w), x);
                        let high = vmull_s8(vget_high_s8(w), x);
                        let sums = &mut sums[token];
                        sums[2 * part] = vpadalq_s16(sums[2 * part], low);
                        sums[2 * part + 1] = vpadalq_s16(sums[2 * part + 1], high);
                    }
                }
            }
            let mut out = [[vdupq_n_f32(0.0); 4]; T];
            for token in 0..T {
                for part in 0..4 {
                    let fours = vpaddq_s32(sums[token][2 * part], sums[token][2 * part + 1]);
                    out[token][part] = vcvtq_f32_s32(fours);
                }
            }
            out
        }
    }
}

/// Sums of four products of bytes.
pub(crate) struct DotProduct;

impl Dot<Neon> for DotProduct {
    #[inline(always)]
    unsafe fn block<const T: usize>(
        weights: *const i8,
        inputs: *const InputBlock,
    ) -> [[float32x4_t; 4]; T] {
        // SAFETY: by the trait's contract.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); 4]; T];
            for quad in 0..QUADS {
                for part in 0..4 {
                    let w = vld1q_s8(weights.add(64 * quad + 16 * part));
                    for token in 0..T {
                        let x = vdupq_n_s32(InputBlock::quad(inputs.add(token), quad));
                        let x = vreinterpretq_s8_s32(x);
                        // The intrinsic is not stable yet.
                        asm!(
                            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                            sum = inout(vreg) sums[token][part],
                            w = in(vreg) w,
                            x = in(vreg) x,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
            let mut out = [[vdupq_n_f32(0.0); 4]; T];
            for token in 0..T {
                for part in 0..4 {
                    out[token][part] = vcvtq_f32_s32(sums[token][part]);
                }
            }
            out
        }
    }
}
