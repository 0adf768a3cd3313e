//! One vocabulary of vector operations over the instruction sets, so that a kernel is written once.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Simd`]; [`dispatch!`] compiles it once
//! per instruction set and calls the right copy. Vector functions must never be called through
//! anything that is not inlined into such a copy (a closure, say), or every operation becomes a call.
#![allow(unsafe_code)]
// Soundness: every function here is `unsafe` with two duties on the caller. The instruction set must
// be available, which `dispatch!` ensures by matching on a detected `Isa`; and pointers must be valid
// for the lanes that are read or written, which each kernel ensures by its length checks.

/// Vector operations of one instruction set. `V` holds `LANES` numbers.
///
/// # Safety
/// Callers run on a processor with the instruction set, and pass pointers to as many numbers as are read or written; no
/// alignment is assumed.
#[allow(
    clippy::missing_safety_doc,
    reason = "one contract for all functions, above"
)]
pub(crate) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, x: Self::V);
    /// Loads the first `n <= LANES` lanes, zeros in the others.
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    /// Stores the first `n <= LANES` lanes.
    unsafe fn store_first(to: *mut f32, x: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(x: Self::V) -> Self::V;
    unsafe fn abs(x: Self::V) -> Self::V;
    unsafe fn round(x: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the hardware does so.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `x · 2^n` for whole `n` in -126..=127.
    unsafe fn scale_by_power(x: Self::V, n: Self::V) -> Self::V;
    /// `a < b ? yes : no`, lane by lane.
    unsafe fn select_less(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Transposes a corner `[rows, cols]` of at most `LANES` each, rows `stride` apart, into `cols`
    /// whole vectors `to_stride` apart, with zeros in the lanes past `rows`.
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        cols: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        for j in 0..cols {
            for i in 0..Self::LANES {
                // SAFETY: the corner lies within the caller's matrix, and `to` has a whole vector a column.
                unsafe {
                    let x = if i < rows {
                        *from.add(i * stride + j)
                    } else {
                        0.0
                    };
                    *to.add(j * to_stride + i) = x;
                }
            }
        }
    }
    unsafe fn sum(x: Self::V) -> f32;
    unsafe fn max_lane(x: Self::V) -> f32;
}

/// Defines `fn name(isa, arguments…)` that runs `body::<S>(arguments…)` on the instruction set `isa`.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(isa: $crate::isa::Isa, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's contract is the body's, and this function enables the instruction set.
                unsafe { $body::<$crate::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's contract is the body's, and this function enables the instruction set.
                unsafe { $body::<$crate::simd::Avx2>($($arg),*) }
            }
            // SAFETY: an `Isa` is only had where the processor was found to have it; the rest is the caller's contract.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::isa::Isa::Avx2 => avx2($($arg),*),
                    _ => $body::<$crate::simd::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Sixteen lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

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

    /// Eight lanes.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

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
}

/// Eight lanes in plain Rust, which the compiler turns into what the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn map(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[rustfmt::skip]
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is one access within the contract of the trait's function around it"
)]
impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    #[inline(always)] unsafe fn splat(x: f32) -> [f32; 8] { [x; 8] }
    #[inline(always)] unsafe fn load(from: *const f32) -> [f32; 8] { unsafe { from.cast::<[f32; 8]>().read_unaligned() } }
    #[inline(always)] unsafe fn store(to: *mut f32, x: [f32; 8]) { unsafe { to.cast::<[f32; 8]>().write_unaligned(x) } }
    #[inline(always)] unsafe fn load_first(from: *const f32, n: usize) -> [f32; 8] {
        let mut x = [0.0; 8];
        unsafe { std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n.min(8)) };
        x
    }
    #[inline(always)] unsafe fn store_first(to: *mut f32, x: [f32; 8], n: usize) { unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), to, n.min(8)) } }
    #[inline(always)] unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a + b) }
    #[inline(always)] unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a - b) }
    #[inline(always)] unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a * b) }
    #[inline(always)] unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a / b) }
    #[inline(always)] unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| if a > b { a } else { b }) }
    #[inline(always)] unsafe fn sqrt(x: [f32; 8]) -> [f32; 8] { x.map(f32::sqrt) }
    #[inline(always)] unsafe fn abs(x: [f32; 8]) -> [f32; 8] { x.map(f32::abs) }
    // Adding and taking away 1.5 · 2^23 rounds to whole numbers without a call into the C library.
    #[inline(always)] unsafe fn round(x: [f32; 8]) -> [f32; 8] { x.map(|x| (x + 12_582_912.0) - 12_582_912.0) }
    #[inline(always)] unsafe fn mul_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] { std::array::from_fn(|i| a[i] * b[i] + c[i]) }
    #[inline(always)] unsafe fn scale_by_power(x: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        map(x, n, |x, n| x * f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)] unsafe fn select_less(a: [f32; 8], b: [f32; 8], yes: [f32; 8], no: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)] unsafe fn sum(x: [f32; 8]) -> f32 {
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }
    #[inline(always)] unsafe fn max_lane(x: [f32; 8]) -> f32 { x.iter().copied().fold(f32::NEG_INFINITY, f32::max) }
}
