//! One copy of a kernel for each instruction set.
//!
//! A kernel is an `#[inline(always)]` function generic over [`mor_math::simd::Simd`]; [`dispatch!`] compiles it once per
//! instruction set and calls the right copy. Vectors have sixteen or eight lanes.

/// Defines `fn name(isa, arguments…)` that runs `body::<S>(arguments…)` on the instruction set `isa`, which
/// `current_isa` gave.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(isa: mor_math::Isa, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's contract is the body's, and this function enables the instruction set.
                unsafe { $body::<mor_math::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's contract is the body's, and this function enables the instruction set.
                unsafe { $body::<mor_math::simd::Avx2>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[inline(never)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn neon($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's contract is the body's, and the instruction set is part of the architecture.
                unsafe { $body::<mor_math::simd::Wide<mor_math::simd::Neon, 2>>($($arg),*) }
            }
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            #[inline(never)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn simd128($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's contract is the body's, and the program is compiled for the instruction set.
                unsafe { $body::<mor_math::simd::Wide<mor_math::simd::Simd128, 2>>($($arg),*) }
            }
            // SAFETY: callers pass what `current_isa` gave, which the processor has; the rest is the caller's contract.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    mor_math::Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    mor_math::Isa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    mor_math::Isa::Neon => neon($($arg),*),
                    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                    mor_math::Isa::Simd128 => simd128($($arg),*),
                    _ => $body::<mor_math::simd::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;
