//! Sixteen f32 lanes, whatever the processor calls them.
//!
//! Every kernel is written once over [`Simd`] and instantiated per instruction set. All its
//! functions are inlined into a caller that enables the instruction set, hence `unsafe`: calling
//! one on a processor without it is undefined behaviour. `cpu::Isa` only hands out what the
//! processor was found to have.
#![allow(unsafe_code)]

use half::f16;

/// Lanes of one vector, and output rows of one panel.
pub(crate) const LANES: usize = 16;

/// Arithmetic on vectors of [`LANES`] f32.
///
/// # Safety
/// Callers make sure that the processor has the instruction set, and that pointers are valid for
/// [`LANES`] elements; no alignment is assumed.
#[allow(
    clippy::missing_safety_doc,
    reason = "one contract for all functions, above"
)]
pub(crate) trait Simd: Copy {
    /// The vector.
    type V: Copy;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn load_f16(from: *const f16) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the processor can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// 2ⁿ for lanes that hold whole numbers from -126 to 127.
    unsafe fn pow2(n: Self::V) -> Self::V;
}

/// A stored weight: f32, or f16 widened on its way into the register.
pub(crate) trait Weight: Copy {
    /// # Safety
    /// As for [`Simd`].
    unsafe fn load<S: Simd>(from: *const Self) -> S::V;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract of this function, which is that of the trait.
        unsafe { S::load(from) }
    }
}

impl Weight for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: by the contract of this function, which is that of the trait.
        unsafe { S::load_f16(from) }
    }
}

/// Sum of all lanes, pairwise.
#[inline(always)]
pub(crate) unsafe fn sum<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    // SAFETY: the array has exactly LANES elements.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest lane.
#[inline(always)]
pub(crate) unsafe fn largest<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    // SAFETY: the array has exactly LANES elements.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Plain arrays: the reference for every other instruction set, and the fallback.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    type V = [f32; LANES];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: valid for LANES elements by the trait's contract.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        // SAFETY: valid for LANES elements by the trait's contract.
        let halves = unsafe { from.cast::<[f16; LANES]>().read_unaligned() };
        halves.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: valid for LANES elements by the trait's contract.
        unsafe { to.cast::<Self::V>().write_unaligned(v) };
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        std::array::from_fn(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
}
