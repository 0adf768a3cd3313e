//! How exactly matrix products are computed: a choice for the whole process.

use std::sync::atomic::{AtomicU8, Ordering};

/// The precision of the products in linear layers and the output head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// `f32` throughout: the default.
    #[default]
    F32,
    /// Operands rounded to bfloat16 (8 significant bits), sums in `f32`: what GPUs call mixed
    /// precision. Good enough to train with, not to evaluate with. Only CPUs with AVX-512 BF16 have
    /// it; others keep to `f32`. Attention and pointwise kernels are not affected.
    Bf16,
    /// Operands rounded to 16-bit floats (11 significant bits, at most 65,504), sums in `f32`: what a GPU with 16-bit
    /// storage computes. No faster than `f32` here. Attention and pointwise kernels are not affected.
    F16,
}

static CHOSEN: AtomicU8 = AtomicU8::new(MatmulPrecision::F32 as u8);

/// Chooses the precision of all products from now on, in all threads.
pub fn set_matmul_precision(precision: MatmulPrecision) {
    CHOSEN.store(precision as u8, Ordering::Relaxed);
}

/// The precision that products have now: what was chosen, where the CPU can do it.
pub fn matmul_precision() -> MatmulPrecision {
    #[cfg(target_arch = "x86_64")]
    let bf16 = crate::Isa::current() == crate::Isa::Avx512 && crate::matmul_bf16::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    let bf16 = false;
    match CHOSEN.load(Ordering::Relaxed) {
        chosen if chosen == MatmulPrecision::F16 as u8 => MatmulPrecision::F16,
        chosen if chosen == MatmulPrecision::Bf16 as u8 && bf16 => MatmulPrecision::Bf16,
        _ => MatmulPrecision::F32,
    }
}
