//! What NEON does beyond arithmetic on f32: f16, and products of bytes.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;
use mor_math::simd::{Neon, Wide};

use super::q8::{Dot, InputBlock, QUADS};
use super::simd::Widen;

impl Widen for Neon {
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> float32x4_t {
        // SAFETY: by the trait's contract; NEON's loads need no alignment.
        widened(unsafe { vld1_u16(from.cast()) })
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

impl Dot<Wide<Neon, 4>> for Widening {
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

impl Dot<Wide<Neon, 4>> for DotProduct {
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
