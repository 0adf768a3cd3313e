//! One vocabulary of vector operations over the instruction sets, so that a kernel is written once.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Simd`], and its caller a function that enables the instruction
//! set. Vector functions must never be called through anything that is not inlined into such a function (a closure handed
//! to an iterator, say), or every operation becomes a call.
//!
//! Each type here is the widest register of its instruction set; [`Wide`] makes a longer vector of several.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::Simd128;
pub use wide::Wide;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// Vector operations of one instruction set. `V` holds `LANES` numbers.
///
/// # Safety
/// Callers run on a processor with the instruction set, and pass pointers to as many numbers as are read or written; no
/// alignment is assumed.
#[allow(
    clippy::missing_safety_doc,
    reason = "one contract for all functions, above"
)]
pub trait Simd: Copy {
    /// A vector of [`Self::LANES`] numbers.
    type V: Copy;
    /// Numbers in a vector.
    const LANES: usize;

    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// [`Self::LANES`] numbers in a row.
    unsafe fn load(from: *const f32) -> Self::V;
    /// Writes all lanes.
    unsafe fn store(to: *mut f32, x: Self::V);
    /// Loads the first `n <= LANES` lanes, zeros in the others.
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    /// Stores the first `n <= LANES` lanes.
    unsafe fn store_first(to: *mut f32, x: Self::V, n: usize);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each two. Where one is NaN: `b` on x86, in WebAssembly and in plain Rust, NaN on Arm.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each two; as [`Self::max`] where one is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The square root.
    unsafe fn sqrt(x: Self::V) -> Self::V;
    /// The value without its sign.
    unsafe fn abs(x: Self::V) -> Self::V;
    /// The nearest whole number, the even one of two; for magnitudes below 2²².
    unsafe fn round(x: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the hardware does so.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `x · 2^n` for whole `n` in -126..=127.
    unsafe fn scale_by_power(x: Self::V, n: Self::V) -> Self::V;
    /// `a < b ? yes : no`, lane by lane.
    unsafe fn select_less(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Transposes a corner `[rows, cols]` of at most `LANES` each, rows `stride` apart, into `cols`
    /// whole vectors `to_stride` apart, with zeros in the lanes past `rows`.
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        cols: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        for j in 0..cols {
            for i in 0..Self::LANES {
                // SAFETY: the corner lies within the caller's matrix, and `to` has a whole vector a column.
                unsafe {
                    let x = if i < rows {
                        *from.add(i * stride + j)
                    } else {
                        0.0
                    };
                    *to.add(j * to_stride + i) = x;
                }
            }
        }
    }
    /// The sum of all lanes, in pairs of lanes that are half the vector apart.
    unsafe fn sum(x: Self::V) -> f32;
    /// The largest lane.
    unsafe fn max_lane(x: Self::V) -> f32;
}

#[cfg(test)]
mod tests;
