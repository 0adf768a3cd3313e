//! Plain Rust: the reference for every other instruction set, and the fallback.
#![allow(unsafe_code)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is one access within the contract of the trait's function around it"
)]

use super::Simd;

/// Eight lanes in plain Rust, which the compiler turns into what the target has.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn map(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[rustfmt::skip]
impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    #[inline(always)] unsafe fn splat(x: f32) -> [f32; 8] { [x; 8] }
    #[inline(always)] unsafe fn load(from: *const f32) -> [f32; 8] { unsafe { from.cast::<[f32; 8]>().read_unaligned() } }
    #[inline(always)] unsafe fn store(to: *mut f32, x: [f32; 8]) { unsafe { to.cast::<[f32; 8]>().write_unaligned(x) } }
    #[inline(always)] unsafe fn load_first(from: *const f32, n: usize) -> [f32; 8] {
        let mut x = [0.0; 8];
        unsafe { std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), n.min(8)) };
        x
    }
    #[inline(always)] unsafe fn store_first(to: *mut f32, x: [f32; 8], n: usize) { unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), to, n.min(8)) } }
    #[inline(always)] unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a + b) }
    #[inline(always)] unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a - b) }
    #[inline(always)] unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a * b) }
    #[inline(always)] unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| a / b) }
    #[inline(always)] unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| if a > b { a } else { b }) }
    #[inline(always)] unsafe fn min(a: [f32; 8], b: [f32; 8]) -> [f32; 8] { map(a, b, |a, b| if a < b { a } else { b }) }
    #[inline(always)] unsafe fn sqrt(x: [f32; 8]) -> [f32; 8] { x.map(f32::sqrt) }
    #[inline(always)] unsafe fn abs(x: [f32; 8]) -> [f32; 8] { x.map(f32::abs) }
    // Adding and taking away 1.5 · 2^23 rounds to whole numbers without a call into the C library.
    #[inline(always)] unsafe fn round(x: [f32; 8]) -> [f32; 8] { x.map(|x| (x + 12_582_912.0) - 12_582_912.0) }
    #[inline(always)] unsafe fn mul_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] { std::array::from_fn(|i| a[i] * b[i] + c[i]) }
    #[inline(always)] unsafe fn scale_by_power(x: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        map(x, n, |x, n| x * f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)] unsafe fn select_less(a: [f32; 8], b: [f32; 8], yes: [f32; 8], no: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)] unsafe fn sum(x: [f32; 8]) -> f32 {
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }
    #[inline(always)] unsafe fn max_lane(x: [f32; 8]) -> f32 { x.iter().copied().fold(f32::NEG_INFINITY, f32::max) }
}
