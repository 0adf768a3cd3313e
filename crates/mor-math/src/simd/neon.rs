//! Arm's NEON, which every aarch64 processor has.
#![allow(unsafe_code)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]

use std::arch::aarch64::*;

use super::Simd;

/// NEON: four lanes.
#[derive(Clone, Copy)]
pub struct Neon;

#[rustfmt::skip]
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    #[inline(always)] unsafe fn splat(x: f32) -> float32x4_t { unsafe { vdupq_n_f32(x) } }
    #[inline(always)] unsafe fn load(from: *const f32) -> float32x4_t { unsafe { vld1q_f32(from) } }
    #[inline(always)] unsafe fn store(to: *mut f32, x: float32x4_t) { unsafe { vst1q_f32(to, x) } }
    #[inline(always)] unsafe fn load_first(from: *const f32, n: usize) -> float32x4_t {
        let mut x = [0.0_f32; 4];
        unsafe {
            std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n.min(4));
            vld1q_f32(x.as_ptr())
        }
    }
    #[inline(always)] unsafe fn store_first(to: *mut f32, x: float32x4_t, n: usize) {
        let mut lanes = [0.0_f32; 4];
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n.min(4));
        }
    }
    #[inline(always)] unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { unsafe { vaddq_f32(a, b) } }
    #[inline(always)] unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { unsafe { vsubq_f32(a, b) } }
    #[inline(always)] unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { unsafe { vmulq_f32(a, b) } }
    #[inline(always)] unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t { unsafe { vdivq_f32(a, b) } }
    #[inline(always)] unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t { unsafe { vmaxq_f32(a, b) } }
    #[inline(always)] unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t { unsafe { vminq_f32(a, b) } }
    #[inline(always)] unsafe fn sqrt(x: float32x4_t) -> float32x4_t { unsafe { vsqrtq_f32(x) } }
    #[inline(always)] unsafe fn abs(x: float32x4_t) -> float32x4_t { unsafe { vabsq_f32(x) } }
    #[inline(always)] unsafe fn round(x: float32x4_t) -> float32x4_t { unsafe { vrndnq_f32(x) } }
    #[inline(always)] unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { unsafe { vfmaq_f32(c, a, b) } }
    #[inline(always)] unsafe fn scale_by_power(x: float32x4_t, n: float32x4_t) -> float32x4_t {
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }
    #[inline(always)] unsafe fn select_less(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), yes, no) }
    }
    #[inline(always)] unsafe fn sum(x: float32x4_t) -> f32 {
        unsafe {
            let pair = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(pair) + vget_lane_f32::<1>(pair)
        }
    }
    #[inline(always)] unsafe fn max_lane(x: float32x4_t) -> f32 { unsafe { vmaxvq_f32(x) } }
}
