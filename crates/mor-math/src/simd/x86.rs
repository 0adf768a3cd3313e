//! x86-64.
#![allow(unsafe_code)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]

use std::arch::x86_64::*;

use super::Simd;

/// AVX-512 (F, BW, DQ and VL): sixteen lanes.
#[derive(Clone, Copy)]
pub struct Avx512;

#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    ((1_u32 << n) - 1) as __mmask16
}

#[rustfmt::skip]
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    #[inline(always)] unsafe fn splat(x: f32) -> __m512 { unsafe { _mm512_set1_ps(x) } }
    #[inline(always)] unsafe fn load(from: *const f32) -> __m512 { unsafe { _mm512_loadu_ps(from) } }
    #[inline(always)] unsafe fn store(to: *mut f32, x: __m512) { unsafe { _mm512_storeu_ps(to, x) } }
    #[inline(always)] unsafe fn load_first(from: *const f32, n: usize) -> __m512 { unsafe { _mm512_maskz_loadu_ps(first_lanes(n), from) } }
    #[inline(always)] unsafe fn store_first(to: *mut f32, x: __m512, n: usize) { unsafe { _mm512_mask_storeu_ps(to, first_lanes(n), x) } }
    #[inline(always)] unsafe fn add(a: __m512, b: __m512) -> __m512 { unsafe { _mm512_add_ps(a, b) } }
    #[inline(always)] unsafe fn sub(a: __m512, b: __m512) -> __m512 { unsafe { _mm512_sub_ps(a, b) } }
    #[inline(always)] unsafe fn mul(a: __m512, b: __m512) -> __m512 { unsafe { _mm512_mul_ps(a, b) } }
    #[inline(always)] unsafe fn div(a: __m512, b: __m512) -> __m512 { unsafe { _mm512_div_ps(a, b) } }
    #[inline(always)] unsafe fn max(a: __m512, b: __m512) -> __m512 { unsafe { _mm512_max_ps(a, b) } }
    #[inline(always)] unsafe fn min(a: __m512, b: __m512) -> __m512 { unsafe { _mm512_min_ps(a, b) } }
    #[inline(always)] unsafe fn sqrt(x: __m512) -> __m512 { unsafe { _mm512_sqrt_ps(x) } }
    #[inline(always)] unsafe fn abs(x: __m512) -> __m512 { unsafe { _mm512_abs_ps(x) } }
    #[inline(always)] unsafe fn round(x: __m512) -> __m512 { unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) } }
    #[inline(always)] unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { unsafe { _mm512_fmadd_ps(a, b, c) } }
    #[inline(always)] unsafe fn scale_by_power(x: __m512, n: __m512) -> __m512 { unsafe { _mm512_scalef_ps(x, n) } }
    #[inline(always)] unsafe fn select_less(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }
    #[inline(always)] unsafe fn transpose(from: *const f32, stride: usize, rows: usize, cols: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                if i < rows {
                    *r = _mm512_maskz_loadu_ps(first_lanes(cols), from.add(i * stride));
                }
            }
            // Pairs of rows, then of pairs, within each quarter; then the quarters.
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..4 {
                let (a, b) = (_mm512_castps_pd(t[4 * i]), _mm512_castps_pd(t[4 * i + 2]));
                let (c, d) = (_mm512_castps_pd(t[4 * i + 1]), _mm512_castps_pd(t[4 * i + 3]));
                r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
                r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
            }
            for j in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
                let more_even = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
                let more_odd = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
                t[j] = _mm512_shuffle_f32x4::<0x88>(even, more_even);
                t[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even, more_even);
                t[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd, more_odd);
                t[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd, more_odd);
            }
            for (j, t) in t.into_iter().enumerate() {
                if j < cols {
                    _mm512_storeu_ps(to.add(j * to_stride), t);
                }
            }
        }
    }
    #[inline(always)] unsafe fn sum(x: __m512) -> f32 { unsafe { _mm512_reduce_add_ps(x) } }
    #[inline(always)] unsafe fn max_lane(x: __m512) -> f32 { unsafe { _mm512_reduce_max_ps(x) } }
}

/// AVX2 with FMA: eight lanes.
#[derive(Clone, Copy)]
pub struct Avx2;

#[inline(always)]
unsafe fn first_lanes_256(n: usize) -> __m256i {
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
    }
}

#[rustfmt::skip]
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    #[inline(always)] unsafe fn splat(x: f32) -> __m256 { unsafe { _mm256_set1_ps(x) } }
    #[inline(always)] unsafe fn load(from: *const f32) -> __m256 { unsafe { _mm256_loadu_ps(from) } }
    #[inline(always)] unsafe fn store(to: *mut f32, x: __m256) { unsafe { _mm256_storeu_ps(to, x) } }
    #[inline(always)] unsafe fn load_first(from: *const f32, n: usize) -> __m256 { unsafe { _mm256_maskload_ps(from, first_lanes_256(n)) } }
    #[inline(always)] unsafe fn store_first(to: *mut f32, x: __m256, n: usize) { unsafe { _mm256_maskstore_ps(to, first_lanes_256(n), x) } }
    #[inline(always)] unsafe fn add(a: __m256, b: __m256) -> __m256 { unsafe { _mm256_add_ps(a, b) } }
    #[inline(always)] unsafe fn sub(a: __m256, b: __m256) -> __m256 { unsafe { _mm256_sub_ps(a, b) } }
    #[inline(always)] unsafe fn mul(a: __m256, b: __m256) -> __m256 { unsafe { _mm256_mul_ps(a, b) } }
    #[inline(always)] unsafe fn div(a: __m256, b: __m256) -> __m256 { unsafe { _mm256_div_ps(a, b) } }
    #[inline(always)] unsafe fn max(a: __m256, b: __m256) -> __m256 { unsafe { _mm256_max_ps(a, b) } }
    #[inline(always)] unsafe fn min(a: __m256, b: __m256) -> __m256 { unsafe { _mm256_min_ps(a, b) } }
    #[inline(always)] unsafe fn sqrt(x: __m256) -> __m256 { unsafe { _mm256_sqrt_ps(x) } }
    #[inline(always)] unsafe fn abs(x: __m256) -> __m256 { unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) } }
    #[inline(always)] unsafe fn round(x: __m256) -> __m256 { unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) } }
    #[inline(always)] unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { unsafe { _mm256_fmadd_ps(a, b, c) } }
    #[inline(always)] unsafe fn scale_by_power(x: __m256, n: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)] unsafe fn select_less(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }
    #[inline(always)] unsafe fn sum(x: __m256) -> f32 {
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)] unsafe fn max_lane(x: __m256) -> f32 {
        unsafe {
            let half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
}
