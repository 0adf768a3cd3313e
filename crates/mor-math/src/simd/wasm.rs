//! WebAssembly's 128-bit SIMD.
#![allow(unsafe_code)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is one access within the contract of the trait's function around it"
)]

use std::arch::wasm32::*;

use super::Simd;

/// `simd128`: four lanes.
#[derive(Clone, Copy)]
pub struct Simd128;

#[rustfmt::skip]
impl Simd for Simd128 {
    type V = v128;
    const LANES: usize = 4;
    #[inline(always)] unsafe fn splat(x: f32) -> v128 { f32x4_splat(x) }
    #[inline(always)] unsafe fn load(from: *const f32) -> v128 { unsafe { v128_load(from.cast()) } }
    #[inline(always)] unsafe fn store(to: *mut f32, x: v128) { unsafe { v128_store(to.cast(), x) } }
    #[inline(always)] unsafe fn load_first(from: *const f32, n: usize) -> v128 {
        let mut x = [0.0_f32; 4];
        unsafe {
            std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n.min(4));
            v128_load(x.as_ptr().cast())
        }
    }
    #[inline(always)] unsafe fn store_first(to: *mut f32, x: v128, n: usize) {
        let mut lanes = [0.0_f32; 4];
        unsafe {
            v128_store(lanes.as_mut_ptr().cast(), x);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n.min(4));
        }
    }
    #[inline(always)] unsafe fn add(a: v128, b: v128) -> v128 { f32x4_add(a, b) }
    #[inline(always)] unsafe fn sub(a: v128, b: v128) -> v128 { f32x4_sub(a, b) }
    #[inline(always)] unsafe fn mul(a: v128, b: v128) -> v128 { f32x4_mul(a, b) }
    #[inline(always)] unsafe fn div(a: v128, b: v128) -> v128 { f32x4_div(a, b) }
    // Those of x86: the second where one is not a number.
    #[inline(always)] unsafe fn max(a: v128, b: v128) -> v128 { f32x4_pmax(b, a) }
    #[inline(always)] unsafe fn min(a: v128, b: v128) -> v128 { f32x4_pmin(b, a) }
    #[inline(always)] unsafe fn sqrt(x: v128) -> v128 { f32x4_sqrt(x) }
    #[inline(always)] unsafe fn abs(x: v128) -> v128 { f32x4_abs(x) }
    #[inline(always)] unsafe fn round(x: v128) -> v128 { f32x4_nearest(x) }
    #[inline(always)] unsafe fn mul_add(a: v128, b: v128, c: v128) -> v128 { f32x4_add(f32x4_mul(a, b), c) }
    #[inline(always)] unsafe fn scale_by_power(x: v128, n: v128) -> v128 {
        f32x4_mul(x, i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127)), 23))
    }
    #[inline(always)] unsafe fn select_less(a: v128, b: v128, yes: v128, no: v128) -> v128 {
        v128_bitselect(yes, no, f32x4_lt(a, b))
    }
    #[inline(always)] unsafe fn sum(x: v128) -> f32 {
        (f32x4_extract_lane::<0>(x) + f32x4_extract_lane::<2>(x)) + (f32x4_extract_lane::<1>(x) + f32x4_extract_lane::<3>(x))
    }
    #[inline(always)] unsafe fn max_lane(x: v128) -> f32 {
        let pair = f32x4_pmax(x, i32x4_shuffle::<2, 3, 0, 1>(x, x));
        f32::max(f32x4_extract_lane::<0>(pair), f32x4_extract_lane::<1>(pair))
    }
}
