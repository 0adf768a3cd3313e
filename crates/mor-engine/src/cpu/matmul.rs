//! Products of packed matrices with a few input rows at a time.
#![allow(unsafe_code)]

use std::ops::Range;

use super::math;
use super::simd::{LANES, Simd, Weight};

/// What is applied to a product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Gelu,
}

/// One product `output = activation(matrix · input + bias)` for `tokens` input rows.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Input rows, `cols` values each, `input_stride` apart.
    pub(crate) input: *const f32,
    pub(crate) input_stride: usize,
    /// Output rows with room for whole panels, `output_stride` apart.
    pub(crate) output: *mut f32,
    pub(crate) output_stride: usize,
    /// Whole panels of bias, or null.
    pub(crate) bias: *const f32,
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    pub(crate) activation: Activation,
}

/// Sums `LANES` rows of one panel times one input. `ACC` independent chains hide the latency of the
/// multiply-add.
///
/// # Safety
/// `weights` is valid for `cols * LANES` values and `x` for `cols`.
#[inline(always)]
pub(crate) unsafe fn panel_vector<S: Simd, W: Weight, const ACC: usize>(
    weights: *const W,
    x: *const f32,
    cols: usize,
) -> S::V {
    // SAFETY: every index stays below `cols`.
    unsafe {
        let mut sums = [S::splat(0.0); ACC];
        let whole = cols - cols % ACC;
        let mut col = 0;
        while col < whole {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let w = W::load::<S>(weights.add((col + lane) * LANES));
                *sum = S::fma(w, S::splat(*x.add(col + lane)), *sum);
            }
            col += ACC;
        }
        while col < cols {
            let w = W::load::<S>(weights.add(col * LANES));
            sums[0] = S::fma(w, S::splat(*x.add(col)), sums[0]);
            col += 1;
        }
        let mut width = ACC / 2;
        while width > 0 {
            for i in 0..width {
                sums[i] = S::add(sums[i], sums[i + width]);
            }
            width /= 2;
        }
        sums[0]
    }
}

/// As [`panel_vector`] for `T` inputs, `stride` apart: each weight is loaded once for all of them.
///
/// # Safety
/// As for [`panel_vector`], for each input.
#[inline(always)]
unsafe fn panel_tokens<S: Simd, W: Weight, const T: usize>(
    weights: *const W,
    x: *const f32,
    stride: usize,
    cols: usize,
) -> [S::V; T] {
    // SAFETY: every index stays below `cols`.
    unsafe {
        let mut sums = [S::splat(0.0); T];
        for col in 0..cols {
            let w = W::load::<S>(weights.add(col * LANES));
            for (token, sum) in sums.iter_mut().enumerate() {
                *sum = S::fma(w, S::splat(*x.add(token * stride + col)), *sum);
            }
        }
        sums
    }
}

/// Computes the output rows of `panels`. `ACC` and `T` are chosen to fill the registers.
///
/// # Safety
/// `weights` is the whole matrix, `panels` lies inside it, and the pointers of `product` are valid for
/// its shape. Nobody else touches these panels' part of the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn matmul<S: Simd, W: Weight, const ACC: usize, const T: usize>(
    weights: *const W,
    panels: Range<usize>,
    product: &Product,
) {
    let Product { cols, tokens, .. } = *product;
    for panel in panels {
        // SAFETY: offsets stay inside the shapes of the contract.
        unsafe {
            let w = weights.add(panel * cols * LANES);
            let input = |token: usize| product.input.add(token * product.input_stride);
            let bias = if product.bias.is_null() {
                S::splat(0.0)
            } else {
                S::load(product.bias.add(panel * LANES))
            };
            let store = |token: usize, sum: S::V| {
                let mut value = S::add(sum, bias);
                if product.activation == Activation::Gelu {
                    value = math::gelu::<S>(value);
                }
                let at = token * product.output_stride + panel * LANES;
                S::store(product.output.add(at), value);
            };
            let mut token = 0;
            while token + T <= tokens {
                let sums = panel_tokens::<S, W, T>(w, input(token), product.input_stride, cols);
                for (i, sum) in sums.into_iter().enumerate() {
                    store(token + i, sum);
                }
                token += T;
            }
            while token + 2 <= tokens {
                let sums = panel_tokens::<S, W, 2>(w, input(token), product.input_stride, cols);
                for (i, sum) in sums.into_iter().enumerate() {
                    store(token + i, sum);
                }
                token += 2;
            }
            if token < tokens {
                store(token, panel_vector::<S, W, ACC>(w, input(token), cols));
            }
        }
    }
}
