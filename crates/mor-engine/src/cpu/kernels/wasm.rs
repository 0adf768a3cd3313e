//! What WebAssembly's 128-bit SIMD does beyond arithmetic on f32: f16, and products of bytes.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::arch::wasm32::*;

use half::f16;
use mor_math::simd::{Simd128, Wide};

use super::q8::{Dot, InputBlock, QUADS};
use super::simd::Widen;

impl Widen for Simd128 {
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> v128 {
        // SAFETY: by the trait's contract; the load needs no alignment.
        widened(unsafe { u32x4_load_extend_u16x4(from.cast()) })
    }
}

/// f32 of four f16 in the lower halves. There is no instruction for it: exponent and fraction move to where f32 has them,
/// and a multiplication corrects the exponent, also of subnormal numbers.
#[inline(always)]
fn widened(halves: v128) -> v128 {
    let sign = i32x4_shl(v128_and(halves, i32x4_splat(0x8000)), 16);
    let size = v128_and(halves, i32x4_splat(0x7FFF));
    let scaled = f32x4_mul(i32x4_shl(size, 13), f32x4_splat(f32::from_bits(239 << 23)));
    // Infinity, and what is not a number, keep the largest exponent.
    let endless = v128_and(
        i32x4_gt(size, i32x4_splat(0x7BFF)),
        i32x4_splat(0x7F80_0000),
    );
    v128_or(v128_or(scaled, endless), sign)
}

/// Products of bytes widened to 16 bits, in sums of two.
pub(crate) struct Widening;

impl Dot<Wide<Simd128, 4>> for Widening {
    #[inline(always)]
    unsafe fn block<const T: usize>(
        weights: *const i8,
        inputs: *const InputBlock,
    ) -> [[v128; 4]; T] {
        // SAFETY: by the trait's contract.
        unsafe {
            let mut out = [[f32x4_splat(0.0); 4]; T];
            // Eight rows at a time: with all sixteen, the sums of two inputs would not fit the registers.
            for half in 0..2 {
                let mut sums = [[i32x4_splat(0); 4]; T];
                for quad in 0..QUADS {
                    let at = weights.add(64 * quad + 32 * half);
                    let (a, b) = (v128_load(at.cast()), v128_load(at.add(16).cast()));
                    let w = [
                        i16x8_extend_low_i8x16(a),
                        i16x8_extend_high_i8x16(a),
                        i16x8_extend_low_i8x16(b),
                        i16x8_extend_high_i8x16(b),
                    ];
                    for token in 0..T {
                        let x = i32x4_splat(InputBlock::quad(inputs.add(token), quad));
                        let x = i16x8_extend_low_i8x16(x);
                        for part in 0..4 {
                            let pairs = i32x4_dot_i16x8(w[part], x);
                            sums[token][part] = i32x4_add(sums[token][part], pairs);
                        }
                    }
                }
                for token in 0..T {
                    for part in 0..2 {
                        // Each row's even and odd pair, side by side.
                        let (a, b) = (sums[token][2 * part], sums[token][2 * part + 1]);
                        let even = i32x4_shuffle::<0, 2, 4, 6>(a, b);
                        let odd = i32x4_shuffle::<1, 3, 5, 7>(a, b);
                        out[token][2 * half + part] = f32x4_convert_i32x4(i32x4_add(even, odd));
                    }
                }
            }
            out
        }
    }
}
