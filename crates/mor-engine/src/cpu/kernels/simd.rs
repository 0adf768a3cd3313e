//! Sixteen f32 lanes, whatever the processor calls them.
//!
//! Every kernel is written once over [`Simd`] and instantiated per instruction set. All its
//! functions are inlined into a caller that enables the instruction set, hence `unsafe`: calling
//! one on a processor without it is undefined behaviour. `Kernels` only hands out what the
//! processor was found to have.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use half::f16;
use mor_math::simd::{Portable, Simd, Wide};

use crate::model::PANEL;

/// Lanes of one vector, and output rows of one panel.
pub(crate) const LANES: usize = PANEL;

/// Plain code: the reference for every other instruction set, and the fallback.
pub(crate) type Scalar = Wide<Portable, 2>;

/// An instruction set that widens f16.
pub(crate) trait Widen: Simd {
    /// As many f32 as there are lanes, from f16.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn load_f16(from: *const f16) -> Self::V;
}

impl Widen for Portable {
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        // SAFETY: valid for as many elements as there are lanes, by the trait's contract.
        let halves = unsafe { from.cast::<[f16; Self::LANES]>().read_unaligned() };
        halves.map(f16::to_f32)
    }
}

impl<S: Widen, const N: usize> Widen for Wide<S, N> {
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        // SAFETY: by the contract of this function; each part reads its share of the lanes.
        unsafe {
            let mut out = Self::splat(0.0);
            for i in 0..N {
                out[i] = S::load_f16(from.add(i * S::LANES));
            }
            out
        }
    }
}

/// A stored weight: f32, or f16 widened on its way into the register.
pub(crate) trait Weight: Copy {
    /// # Safety
    /// As for [`Simd`].
    unsafe fn load<S: Widen>(from: *const Self) -> S::V;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<S: Widen>(from: *const Self) -> S::V {
        // SAFETY: by the contract of this function, which is that of the trait.
        unsafe { S::load(from) }
    }
}

impl Weight for f16 {
    #[inline(always)]
    unsafe fn load<S: Widen>(from: *const Self) -> S::V {
        // SAFETY: by the contract of this function, which is that of the trait.
        unsafe { S::load_f16(from) }
    }
}
