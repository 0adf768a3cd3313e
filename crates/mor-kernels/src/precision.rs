//! How exactly matrix products are computed: a choice for the whole process.

use std::sync::atomic::{AtomicBool, Ordering};

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
}

static BF16: AtomicBool = AtomicBool::new(false);

/// Chooses the precision of all products from now on, in all threads.
pub fn set_matmul_precision(precision: MatmulPrecision) {
    BF16.store(precision == MatmulPrecision::Bf16, Ordering::Relaxed);
}

/// The precision that products have now: what was chosen, where the CPU can do it.
pub fn matmul_precision() -> MatmulPrecision {
    let chosen = BF16.load(Ordering::Relaxed);
    #[cfg(target_arch = "x86_64")]
    let possible =
        crate::Isa::current() == crate::Isa::Avx512 && crate::matmul_bf16::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    let possible = false;
    if chosen && possible {
        MatmulPrecision::Bf16
    } else {
        MatmulPrecision::F32
    }
}
