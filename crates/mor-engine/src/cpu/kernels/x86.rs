//! What AVX-512 and AVX2 do beyond arithmetic on f32: f16, and products of bytes.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use half::f16;
use mor_math::simd::{Avx2, Avx512, Wide};

use super::q8::{Dot, InputBlock, QUADS};
use super::simd::Widen;

impl Widen for Avx512 {
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> __m512 {
        // SAFETY: by the trait's contract; the load is the unaligned one.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
}

impl Widen for Avx2 {
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
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

impl Dot<Wide<Avx2, 2>> for PairSums {
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
