//! WebAssembly's 128-bit SIMD.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::arch::wasm32::*;

use half::f16;

use super::q8::{Dot, InputBlock, QUADS};
use super::simd::Simd;

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
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]
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
        unsafe {
            [
                widened(u32x4_load_extend_u16x4(from.cast())),
                widened(u32x4_load_extend_u16x4(from.add(4).cast())),
                widened(u32x4_load_extend_u16x4(from.add(8).cast())),
                widened(u32x4_load_extend_u16x4(from.add(12).cast())),
            ]
        }
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

impl Dot<Simd128> for Widening {
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
