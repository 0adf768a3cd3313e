//! Products of packed matrices with one input or with tiles of several.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::math;
use super::simd::{LANES, Weight, Widen};
use mor_math::simd::Simd;

/// What is applied to a product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Gelu,
}

/// One product `output = activation(matrix · input + bias)` for `tokens` inputs.
#[derive(Clone, Copy)]
pub(crate) struct Product<I> {
    /// One input, or several in tiles of as many as the kernel takes at once, `[tile][column][token]`.
    pub(crate) input: *const I,
    /// Output rows with room for whole panels, `output_stride` apart.
    pub(crate) output: *mut f32,
    pub(crate) output_stride: usize,
    /// Whole panels of bias, or null.
    pub(crate) bias: *const f32,
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    pub(crate) activation: Activation,
}

impl<I> Product<I> {
    /// Adds the bias to 16 rows' sums, and stores them.
    ///
    /// # Safety
    /// The pointers are valid for the shapes, and `panel` and `token` lie inside.
    #[inline(always)]
    pub(crate) unsafe fn finish<S: Simd>(&self, panel: usize, token: usize, sum: S::V) {
        // SAFETY: by the caller's promise.
        unsafe {
            let mut value = sum;
            if !self.bias.is_null() {
                value = S::add(value, S::load(self.bias.add(panel * LANES)));
            }
            if self.activation == Activation::Gelu {
                value = math::gelu::<S>(value);
            }
            let at = token * self.output_stride + panel * LANES;
            S::store(self.output.add(at), value);
        }
    }
}

/// Sums `LANES` rows of one panel times one input. `ACC` independent chains hide the latency of the
/// multiply-add.
///
/// # Safety
/// `weights` is valid for `cols * LANES` values and `x` for `cols`.
#[inline(always)]
pub(crate) unsafe fn panel_vector<S: Widen, W: Weight, const ACC: usize>(
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
                *sum = S::mul_add(w, S::splat(*x.add(col + lane)), *sum);
            }
            col += ACC;
        }
        while col < cols {
            let w = W::load::<S>(weights.add(col * LANES));
            sums[0] = S::mul_add(w, S::splat(*x.add(col)), sums[0]);
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

/// Sums of `P` panels times a tile of `T` inputs, which the registers hold: a weight is loaded once for all inputs,
/// an input once for all panels.
///
/// # Safety
/// `weights` is valid for `P * cols * LANES` values and `x` for `cols * T`.
#[inline(always)]
unsafe fn panels_tile<S: Widen, W: Weight, const P: usize, const T: usize>(
    weights: *const W,
    x: *const f32,
    cols: usize,
) -> [[S::V; T]; P] {
    // SAFETY: every index stays below `cols`.
    unsafe {
        let mut sums = [[S::splat(0.0); T]; P];
        for col in 0..cols {
            let mut w = [S::splat(0.0); P];
            for (panel, w) in w.iter_mut().enumerate() {
                *w = W::load::<S>(weights.add((panel * cols + col) * LANES));
            }
            for token in 0..T {
                let x = S::splat(*x.add(col * T + token));
                for panel in 0..P {
                    sums[panel][token] = S::mul_add(w[panel], x, sums[panel][token]);
                }
            }
        }
        sums
    }
}

/// All tiles of `P` panels, the first being `panel`.
///
/// # Safety
/// As for [`matmul`].
#[inline(always)]
unsafe fn panels_tiles<S: Widen, W: Weight, const P: usize, const T: usize>(
    weights: *const W,
    panel: usize,
    product: &Product<f32>,
) {
    let Product { cols, tokens, .. } = *product;
    // SAFETY: by the contract.
    unsafe {
        let weights = weights.add(panel * cols * LANES);
        for first in (0..tokens).step_by(T) {
            let sums = panels_tile::<S, W, P, T>(weights, product.input.add(first * cols), cols);
            for (p, sums) in sums.into_iter().enumerate() {
                for (i, sum) in sums.into_iter().enumerate() {
                    if first + i < tokens {
                        product.finish::<S>(panel + p, first + i, sum);
                    }
                }
            }
        }
    }
}

/// Computes the output rows of `panels`. `ACC`, `P` and `T` are chosen to fill the registers.
///
/// # Safety
/// `weights` is the whole matrix, `panels` lies inside it, and the pointers of `product` are valid for
/// its shape. Nobody else touches these panels' part of the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn matmul<
    S: Widen,
    W: Weight,
    const ACC: usize,
    const P: usize,
    const T: usize,
>(
    weights: *const W,
    panels: Range<usize>,
    product: &Product<f32>,
) {
    let cols = product.cols;
    // SAFETY: offsets stay inside the shapes of the contract.
    unsafe {
        if product.tokens == 1 {
            for panel in panels {
                let w = weights.add(panel * cols * LANES);
                let sum = panel_vector::<S, W, ACC>(w, product.input, cols);
                product.finish::<S>(panel, 0, sum);
            }
            return;
        }
        let mut panel = panels.start;
        while panel + P <= panels.end {
            panels_tiles::<S, W, P, T>(weights, panel, product);
            panel += P;
        }
        while panel < panels.end {
            panels_tiles::<S, W, 1, T>(weights, panel, product);
            panel += 1;
        }
    }
}
