//! Which instruction sets there are.

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, DQ and VL): vectors of 512 bits.
    Avx512,
    /// x86-64 with AVX2, FMA and F16C: vectors of 256 bits.
    Avx2,
    /// aarch64: vectors of 128 bits.
    Neon,
    /// WebAssembly with `simd128`: vectors of 128 bits.
    Simd128,
    /// Whatever the compiler makes of plain Rust; works everywhere.
    Scalar,
}

impl Isa {
    /// Every instruction set, the best first.
    pub const ALL: [Self; 5] = [
        Self::Avx512,
        Self::Avx2,
        Self::Neon,
        Self::Simd128,
        Self::Scalar,
    ];

    /// Those this processor has, best first; never empty.
    pub fn available() -> Vec<Self> {
        let all = Self::ALL.into_iter();
        all.filter(|isa| isa.is_available()).collect()
    }

    /// The best that this processor has.
    pub fn best() -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|isa| isa.is_available()).unwrap_or(Self::Scalar)
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Self::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Simd128 => cfg!(all(target_arch = "wasm32", target_feature = "simd128")),
            Self::Scalar => true,
        }
    }

    /// A short name, which [`Isa::named`] knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Simd128 => "simd128",
            Self::Scalar => "scalar",
        }
    }

    /// The instruction set of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_there_is_always_one() {
        for isa in Isa::ALL {
            assert_eq!(Isa::named(isa.name()), Some(isa));
        }
        assert_eq!(Isa::named("sse"), None);
        assert_eq!(Isa::available().first(), Some(&Isa::best()));
        assert_eq!(Isa::available().last(), Some(&Isa::Scalar));
    }
}
