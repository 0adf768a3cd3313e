//! AVX-512 and AVX2 with FMA.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use half::f16;

use super::q8::{Dot, InputBlock, QUADS};
use super::simd::Simd;

/// One 512-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY of every function: the trait's contract gives valid pointers and a processor that has
// the instructions; loads and stores are the unaligned ones.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]
impl Simd for Avx512 {
    type V = __m512;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn pow2(n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
}

/// Two 256-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Applies an intrinsic to both halves.
macro_rules! both {
    ($f:ident, $($v:ident),+) => {
        unsafe { [$f($($v[0]),+), $f($($v[1]),+)] }
    };
}

// SAFETY of every function: as above.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is intrinsics within the contract of the trait's function around it"
)]
impl Simd for Avx2 {
    type V = [__m256; 2];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe {
            _mm256_storeu_ps(to, v[0]);
            _mm256_storeu_ps(to.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        let exponent = |n| unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        };
        [exponent(n[0]), exponent(n[1])]
    }
}

/// Sums of four products of bytes, in 512-bit registers.
pub(crate) struct Vnni;

impl Dot<Avx512> for Vnni {
    #[inline(always)]
    fn prefetch(line: *const i8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }

    #[inline(always)]
    unsafe fn block<const T: usize>(weights: *const i8, inputs: *const InputBlock) -> [__m512; T] {
        // SAFETY: by the trait's contract.
        unsafe {
            // The instruction takes unsigned weights. Flipping the sign adds 128 to each, which the inputs' sums correct.
            let flip = _mm512_set1_epi8(i8::MIN);
            let mut sums = [_mm512_setzero_si512(); T];
            for token in 0..T {
                sums[token] = _mm512_set1_epi32((*inputs.add(token)).correction);
            }
            for quad in 0..QUADS {
                let w = _mm512_xor_si512(_mm512_loadu_si512(weights.add(64 * quad).cast()), flip);
                for token in 0..T {
                    let x = _mm512_set1_epi32(InputBlock::quad(inputs.add(token), quad));
                    sums[token] = _mm512_dpbusd_epi32(sums[token], w, x);
                }
            }
            let mut out = [_mm512_setzero_ps(); T];
            for token in 0..T {
                out[token] = _mm512_cvtepi32_ps(sums[token]);
            }
            out
        }
    }
}

/// Sums of two products of bytes, then of two such sums, in 256-bit registers.
pub(crate) struct PairSums;

impl Dot<Avx2> for PairSums {
    #[inline(always)]
    unsafe fn block<const T: usize>(
        weights: *const i8,
        inputs: *const InputBlock,
    ) -> [[__m256; 2]; T] {
        // SAFETY: by the trait's contract.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sums = [[_mm256_setzero_si256(); 2]; T];
            for quad in 0..QUADS {
                for half in 0..2 {
                    let w = _mm256_loadu_si256(weights.add(64 * quad + 32 * half).cast());
                    // The first factor is unsigned, so the weight's sign goes to the input. Two products of at most
                    // 128 · 127 fit 16 bits.
                    let size = _mm256_abs_epi8(w);
                    for token in 0..T {
                        let x = _mm256_set1_epi32(InputBlock::quad(inputs.add(token), quad));
                        let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, w));
                        let fours = _mm256_madd_epi16(pairs, ones);
                        sums[token][half] = _mm256_add_epi32(sums[token][half], fours);
                    }
                }
            }
            let mut out = [[_mm256_setzero_ps(); 2]; T];
            for token in 0..T {
                for half in 0..2 {
                    out[token][half] = _mm256_cvtepi32_ps(sums[token][half]);
                }
            }
            out
        }
    }
}
