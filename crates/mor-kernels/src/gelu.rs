//! The exact GELU, `x · Φ(x)` with the normal distribution function, and its derivative.

use crate::check::check_len;
use rayon::prelude::*;

/// Elements that one task handles.
const CHUNK: usize = 16 * 1024;

/// `y = gelu(x)`, element by element; same length.
pub fn gelu_forward(x: &[f32], y: &mut [f32]) {
    check_len("y", y, &[x.len()]);
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * normal(x).0;
            }
        });
}

/// `dx = dy · gelu'(x)`, element by element, where `x` is the input of [`gelu_forward`].
pub fn gelu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    check_len("dy", dy, &[x.len()]);
    check_len("dx", dx, &[x.len()]);
    dx.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)))
        .for_each(|(dx, (x, dy))| {
            for ((dx, &x), dy) in dx.iter_mut().zip(x).zip(dy) {
                let (cumulative, density) = normal(x);
                *dx = dy * (cumulative + x * density);
            }
        });
}

/// The normal distribution's cumulative function and density at `x`.
fn normal(x: f32) -> (f32, f32) {
    let x = f64::from(x);
    let z = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
    // Abramowitz and Stegun 7.1.26.
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let e = (-z * z).exp();
    let upper = 0.5 * poly * e;
    let cumulative = if x > 0.0 { 1.0 - upper } else { upper };
    (cumulative as f32, (e * 0.398_942_280_401_432_7) as f32)
}
