//! Kernels: written once over 16 lanes, instantiated per instruction set, chosen at run time.
#![allow(unsafe_code)]

pub(crate) mod attention;
pub(crate) mod buffer;
mod lanes;
pub(crate) mod linear;
mod math;
pub(crate) mod matmul;
pub(crate) mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod norm;
mod q8;
pub(crate) mod simd;
mod softmax;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use mor_math::Isa;
use mor_math::simd::Simd;

use attention::Query;
use lanes::Line;
pub(crate) use linear::Linear;
use matmul::Product;
use q8::InputBlock;

/// Whether f16 weights are widened by an instruction, so that keeping them is a gain.
pub(crate) fn widens_f16(isa: Isa) -> bool {
    matches!(isa, Isa::Avx512 | Isa::Avx2 | Isa::Neon)
}

/// Whether the instructions of [`x86::Vnni`] are there.
#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

type MatmulF32 = unsafe fn(*const f32, Range<usize>, &Product<f32>);
type MatmulF16 = unsafe fn(*const half::f16, Range<usize>, &Product<f32>);
type MatmulQ8 = unsafe fn(*const Line, Range<usize>, &Product<InputBlock>);
type Quantize = unsafe fn(*const f32, usize, *mut InputBlock, usize);
type AddNorm = unsafe fn(*const f32, *const f32, *const f32, *const f32, f32, usize, *mut f32);
type Attend = unsafe fn(&Query);
type Exponentials = unsafe fn(*const f32, f32, f32, usize, *mut f32) -> f32;
type Sum = unsafe fn(*const f32, usize) -> f32;

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    matmul_f32: MatmulF32,
    matmul_f16: MatmulF16,
    matmul_q8: MatmulQ8,
    quantize: Quantize,
    /// Panels and inputs that the f32 and f16 kernels hold in registers.
    tile: (usize, usize),
    /// Inputs that the int8 kernel takes at once.
    tile_q8: usize,
    add_norm: AddNorm,
    attend: Attend,
    exponentials: Exponentials,
    // Only the benchmarks, which the browser does without, read memory for its own sake.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))]
    sum: Sum,
}

/// Instantiates the kernels inside functions that enable the instruction set.
macro_rules! instantiate {
    (
        $module:ident $(features $features:literal)?, $simd:ty,
        acc $acc:literal, tile $panels:literal $tokens:literal,
        q8 $dot:ty, tile $tokens_q8:literal $(, features $features_q8:literal)?
    ) => {
        // Each function is as safe as the kernel that it instantiates, for callers that have the instruction set.
        #[allow(
            clippy::undocumented_unsafe_blocks,
            reason = "each block passes on the arguments, and with them the contract, of the function around it"
        )]
        mod $module {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn matmul_f32(w: *const f32, panels: Range<usize>, product: &Product<f32>) {
                unsafe {
                    matmul::matmul::<$simd, f32, $acc, $panels, $tokens>(w, panels, product)
                }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn matmul_f16(
                w: *const half::f16,
                panels: Range<usize>,
                product: &Product<f32>,
            ) {
                unsafe {
                    matmul::matmul::<$simd, half::f16, $acc, $panels, $tokens>(w, panels, product)
                }
            }
            $(#[target_feature(enable = $features_q8)])?
            unsafe fn matmul_q8(
                w: *const Line,
                panels: Range<usize>,
                product: &Product<InputBlock>,
            ) {
                unsafe { q8::matmul::<$simd, $dot, $tokens_q8>(w, panels, product) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantize(x: *const f32, cols: usize, out: *mut InputBlock, step: usize) {
                unsafe { q8::quantize(x, cols, out, step) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn add_norm(
                x: *const f32,
                add: *const f32,
                gain: *const f32,
                bias: *const f32,
                eps: f32,
                dim: usize,
                out: *mut f32,
            ) {
                unsafe { norm::add_norm::<$simd>(x, add, gain, bias, eps, dim, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attend(query: &Query) {
                unsafe { attention::attend::<$simd, $acc>(query) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn exponentials(
                x: *const f32,
                top: f32,
                scale: f32,
                len: usize,
                out: *mut f32,
            ) -> f32 {
                unsafe { softmax::exponentials::<$simd>(x, top, scale, len, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn sum(from: *const f32, panels: usize) -> f32 {
                unsafe { stream_sum::<$simd>(from, panels) }
            }

            pub(super) const KERNELS: Kernels = Kernels {
                matmul_f32,
                matmul_f16,
                matmul_q8,
                quantize,
                tile: ($panels, $tokens),
                tile_q8: $tokens_q8,
                add_norm,
                attend,
                exponentials,
                sum,
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
instantiate!(
    avx512 features "avx512f,avx2,fma,f16c", mor_math::simd::Avx512,
    acc 8, tile 3 8,
    q8 x86::Vnni, tile 8, features "avx512f,avx512bw,avx512vnni,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
instantiate!(
    avx2 features "avx2,fma,f16c", mor_math::simd::Wide<mor_math::simd::Avx2, 2>,
    acc 4, tile 1 4,
    q8 x86::PairSums, tile 4, features "avx2,fma,f16c"
);
#[cfg(target_arch = "aarch64")]
instantiate!(neon_old, mor_math::simd::Wide<mor_math::simd::Neon, 4>, acc 4, tile 1 4, q8 neon::Widening, tile 2);
#[cfg(target_arch = "aarch64")]
instantiate!(
    neon_dot, mor_math::simd::Wide<mor_math::simd::Neon, 4>, acc 4, tile 1 4,
    q8 neon::DotProduct, tile 4, features "dotprod"
);
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
instantiate!(simd128, mor_math::simd::Wide<mor_math::simd::Simd128, 4>, acc 2, tile 1 2, q8 wasm::Widening, tile 2);
instantiate!(scalar, simd::Scalar, acc 1, tile 1 2, q8 q8::Plain, tile 2);

/// Sums `vectors * LANES` values: as fast as memory can be read.
#[inline(always)]
unsafe fn stream_sum<S: Simd>(from: *const f32, vectors: usize) -> f32 {
    const WAYS: usize = 8;
    // SAFETY: the caller's slice has that many values.
    unsafe {
        let mut sums = [S::splat(0.0); WAYS];
        for block in 0..vectors / WAYS {
            for (way, sum) in sums.iter_mut().enumerate() {
                let at = (block * WAYS + way) * simd::LANES;
                *sum = S::add(*sum, S::load(from.add(at)));
            }
        }
        sums.into_iter().map(|v| S::sum(v)).sum()
    }
}

impl Kernels {
    /// The kernels of an instruction set; plain code where this processor lacks it.
    pub(crate) fn new(isa: Isa) -> Self {
        // The check is what makes every other `unsafe` here sound.
        if !isa.is_available() {
            return scalar::KERNELS;
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if has_vnni() => avx512::KERNELS,
            // The first processors with 512-bit vectors cannot sum products of bytes.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self {
                matmul_q8: avx2::KERNELS.matmul_q8,
                tile_q8: avx2::KERNELS.tile_q8,
                ..avx512::KERNELS
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => neon_dot::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon_old::KERNELS,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Simd128 => simd128::KERNELS,
            _ => scalar::KERNELS,
        }
    }

    /// See [`norm::add_norm`]; slices of the same length.
    ///
    /// # Safety
    /// `out` and, unless null, `add` are valid for `gain.len()` values, as is `x`.
    pub(crate) unsafe fn add_norm(
        &self,
        x: *const f32,
        add: *const f32,
        (gain, bias): (&[f32], &[f32]),
        eps: f32,
        out: *mut f32,
    ) {
        debug_assert_eq!(gain.len(), bias.len());
        // SAFETY: the instruction set was detected; the rest is the caller's promise.
        unsafe { (self.add_norm)(x, add, gain.as_ptr(), bias.as_ptr(), eps, gain.len(), out) }
    }

    /// See [`attention::attend`].
    ///
    /// # Safety
    /// The pointers of `query` are valid for its shapes.
    pub(crate) unsafe fn attend(&self, query: &Query) {
        // SAFETY: the instruction set was detected; the rest is the caller's promise.
        unsafe { (self.attend)(query) }
    }

    /// Writes `exp((x - top) * scale)` and returns the sum.
    pub(crate) fn exponentials(&self, x: &[f32], top: f32, scale: f32, out: &mut [f32]) -> f32 {
        assert_eq!(x.len(), out.len());
        // SAFETY: the instruction set was detected; the lengths are equal.
        unsafe { (self.exponentials)(x.as_ptr(), top, scale, x.len(), out.as_mut_ptr()) }
    }

    /// Sum of a slice, reading it as fast as possible; the last few values may be left out.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn sum(&self, values: &[f32]) -> f32 {
        // SAFETY: the instruction set was detected, and only whole vectors of the slice are read.
        unsafe { (self.sum)(values.as_ptr(), values.len() / simd::LANES) }
    }
}

#[cfg(test)]
mod tests;
