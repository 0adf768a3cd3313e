//! Helpers of the kernel tests: random data, comparison, and numerical gradients.
#![allow(dead_code, missing_docs)] // each test file uses its own part of this module

use mor_kernels::{
    Isa, LinearShape, MatmulPrecision, linear_backward_input, linear_backward_weight,
    linear_forward, with_isa,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The precision of most tests.
pub(crate) const F32: MatmulPrecision = MatmulPrecision::F32;

/// Random numbers in -1..1, the same for the same seed.
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Runs `check` on every instruction set that this CPU has.
pub(crate) fn on_every_isa(check: impl Fn()) {
    for isa in Isa::available() {
        println!("{isa:?}");
        with_isa(isa, &check);
    }
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Compares with `tolerance` relative to the largest magnitude of `wanted`.
#[track_caller]
pub(crate) fn assert_close(name: &str, got: &[f32], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len(), "{name}");
    let scale = wanted.iter().fold(1e-2_f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(wanted).enumerate() {
        let difference = (f64::from(g) - w).abs();
        assert!(
            difference <= tolerance * scale,
            "{name}[{i}]: {g} instead of {w} (scale {scale})"
        );
    }
}

/// The gradient of `loss` at `x` by central differences.
pub(crate) fn numerical_gradient(x: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let (kept, h) = (x[i], 1e-5);
            x[i] = kept + h;
            let above = loss(&x);
            x[i] = kept - h;
            let below = loss(&x);
            x[i] = kept;
            (above - below) / (2.0 * h)
        })
        .collect()
}

pub(crate) fn dot(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum()
}

/// `a: [m, k]` times `b: [k, n]`, read through index functions.
pub(crate) fn product(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            out[i * n + j] = (0..k)
                .map(|p| f64::from(a(i, p)) * f64::from(b(p, j)))
                .sum();
        }
    }
    out
}

/// Operands of a linear layer's products with the results that a naive product in f64 gives.
pub(crate) struct LinearCase {
    pub(crate) shape: LinearShape,
    pub(crate) x: Vec<f32>,
    pub(crate) w: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) dy: Vec<f32>,
    pub(crate) y: Vec<f64>,
    pub(crate) dx: Vec<f64>,
    pub(crate) dw: Vec<f64>,
}

impl LinearCase {
    /// Sizes around those of tiles, panels and blocks.
    pub(crate) const SIZES: [[usize; 3]; 7] = [
        [1, 1, 1],
        [1, 5, 3],
        [7, 17, 33],
        [33, 31, 65],
        [130, 96, 384],
        [257, 1100, 129],
        [1100, 70, 40],
    ];

    /// Random operands, each passed through `round` before it is multiplied.
    pub(crate) fn new([rows, inputs, outputs]: [usize; 3], round: impl Fn(f32) -> f32) -> Self {
        let x = random(1, rows * inputs);
        let w = random(2, outputs * inputs);
        let bias = random(3, outputs);
        let dy = random(4, rows * outputs);
        let mut y = product(
            [rows, outputs, inputs],
            |i, p| round(x[i * inputs + p]),
            |p, j| round(w[j * inputs + p]),
        );
        for row in y.chunks_mut(outputs) {
            for (v, b) in row.iter_mut().zip(&bias) {
                *v += f64::from(*b);
            }
        }
        let dx = product(
            [rows, inputs, outputs],
            |i, p| round(dy[i * outputs + p]),
            |p, j| round(w[p * inputs + j]),
        );
        let dw = product(
            [outputs, inputs, rows],
            |i, p| round(dy[p * outputs + i]),
            |p, j| round(x[p * inputs + j]),
        );
        Self {
            shape: LinearShape {
                rows,
                inputs,
                outputs,
            },
            x,
            w,
            bias,
            dy,
            y,
            dx,
            dw,
        }
    }

    /// Compares forward and both gradients.
    #[track_caller]
    pub(crate) fn check(&self, precision: MatmulPrecision) {
        let mut y = vec![f32::NAN; self.y.len()];
        linear_forward(
            precision,
            self.shape,
            &self.x,
            &self.w,
            Some(&self.bias),
            &mut y,
        );
        assert_close("y", &y, &self.y, 1e-5);
        let mut dx = vec![f32::NAN; self.dx.len()];
        linear_backward_input(precision, self.shape, &self.dy, &self.w, &mut dx);
        assert_close("dx", &dx, &self.dx, 1e-5);
        let mut dw = vec![f32::NAN; self.dw.len()];
        linear_backward_weight(precision, self.shape, &self.dy, &self.x, &mut dw);
        assert_close("dw", &dw, &self.dw, 1e-5);
    }
}
