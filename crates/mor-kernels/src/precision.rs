//! How exactly matrix products are computed.

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

impl MatmulPrecision {
    /// The precision that products have when this one is asked for: itself, where the CPU can do it.
    #[must_use]
    pub fn available(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        let bf16 = crate::current_isa() == crate::Isa::Avx512 && crate::matmul_bf16::is_available();
        #[cfg(not(target_arch = "x86_64"))]
        let bf16 = false;
        match self {
            Self::Bf16 if !bf16 => Self::F32,
            had => had,
        }
    }
}
