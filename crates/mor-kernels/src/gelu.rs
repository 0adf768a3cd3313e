//! The exact GELU, `x · Φ(x)` with the normal distribution function, and its derivative.
#![allow(unsafe_code)] // vector code; every pointer stays within slices of one checked length

use crate::check::check_len;
use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::math::normal;
use crate::profile::{Kernel, timer};
use mor_math::simd::Simd;
use rayon::prelude::*;

/// Elements that one task handles.
const CHUNK: usize = 16 * 1024;

/// `y = gelu(x)`, element by element; same length.
///
/// ```
/// let mut y = [0.0; 3];
/// mor_kernels::gelu_forward(&[-1.0, 0.0, 1.0], &mut y);
/// assert_eq!(y[1], 0.0);
/// assert!((y[2] - 0.841_345).abs() < 1e-6 && (y[2] + y[0] - 0.682_689).abs() < 1e-6);
/// ```
pub fn gelu_forward(x: &[f32], y: &mut [f32]) {
    check_len("y", y, &[x.len()]);
    let isa = current_isa();
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| {
            // SAFETY: `isa` is available, and both chunks have one length.
            unsafe { forward(isa, x, y) }
        });
}

/// `dx = dy · gelu'(x)`, element by element, where `x` is the input of [`gelu_forward`].
pub fn gelu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let _timer = timer(Kernel::Gelu);
    check_len("dy", dy, &[x.len()]);
    check_len("dx", dx, &[x.len()]);
    let isa = current_isa();
    dx.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)))
        .for_each(|(dx, (x, dy))| {
            // SAFETY: `isa` is available, and the three chunks have one length.
            unsafe { backward(isa, x, dy, dx) }
        });
}

dispatch! {
    fn forward(x: &[f32], y: &mut [f32]) = forward_body
}
dispatch! {
    fn backward(x: &[f32], dy: &[f32], dx: &mut [f32]) = backward_body
}

#[inline(always)]
unsafe fn forward_body<S: Simd>(x: &[f32], y: &mut [f32]) {
    let mut i = 0;
    while i < x.len() {
        let n = S::LANES.min(x.len() - i);
        // SAFETY: `i + n <= x.len()`, which is also the length of `y`.
        unsafe {
            let v = S::load_first(x.as_ptr().add(i), n);
            S::store_first(y.as_mut_ptr().add(i), S::mul(v, normal::<S>(v).0), n);
        }
        i += n;
    }
}

#[inline(always)]
unsafe fn backward_body<S: Simd>(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let mut i = 0;
    while i < x.len() {
        let n = S::LANES.min(x.len() - i);
        // SAFETY: `i + n <= x.len()`, which is also the length of `dy` and `dx`.
        unsafe {
            let v = S::load_first(x.as_ptr().add(i), n);
            let (cumulative, density) = normal::<S>(v);
            let slope = S::mul_add(v, density, cumulative);
            let d = S::load_first(dy.as_ptr().add(i), n);
            S::store_first(dx.as_mut_ptr().add(i), S::mul(d, slope), n);
        }
        i += n;
    }
}
