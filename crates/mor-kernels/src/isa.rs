//! Which instruction set the kernels run on: chosen once at run time, the best the CPU has.

use std::cell::Cell;
use std::sync::OnceLock;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, DQ and VL): sixteen lanes.
    Avx512,
    /// x86-64 with AVX2 and FMA: eight lanes.
    Avx2,
    /// Whatever the compiler makes of plain Rust; works everywhere.
    Scalar,
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// The instruction set in use: the best available one, unless the environment variable
    /// `MOR_CPU_ISA` (`avx512`, `avx2` or `scalar`) names a lesser one.
    pub fn current() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        FORCED.get().unwrap_or_else(|| {
            *DETECTED.get_or_init(|| {
                let named = match std::env::var("MOR_CPU_ISA").as_deref() {
                    Ok("avx512") => Some(Self::Avx512),
                    Ok("avx2") => Some(Self::Avx2),
                    Ok("scalar") => Some(Self::Scalar),
                    _ => None,
                };
                match named {
                    Some(isa) if isa.is_available() => isa,
                    _ => Self::best(),
                }
            })
        })
    }

    /// Whether this CPU can run it.
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
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Scalar => true,
        }
    }

    fn best() -> Self {
        [Self::Avx512, Self::Avx2]
            .into_iter()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Scalar)
    }

    /// Runs `work` with the kernels called from this thread forced onto `self`, for tests and
    /// benchmarks. Does nothing special where `self` is not available.
    pub fn force<T>(self, work: impl FnOnce() -> T) -> T {
        let before = FORCED.replace(self.is_available().then_some(self));
        let result = work();
        FORCED.set(before);
        result
    }
}
