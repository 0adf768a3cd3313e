//! Products of int8 weights, in i32 within a block of columns and in f32 across blocks.
//!
//! A weight matrix has a scale for every [`BLOCK`] columns of a row. The input is rounded to int8 likewise, once per
//! product, by a scale for every block of a token: the sum over a block is then exact, and is scaled once.
//! Inside a panel of 16 rows the columns go in fours, `[block][column / 4][row][column % 4]`: what the processors'
//! instructions for sums of four products of bytes take.
#![allow(unsafe_code)]
// Adapters of iterators are not always inlined into code for an instruction set.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use half::f16;
use mor_config::QUANTIZED_BLOCK as BLOCK;

use super::lanes::{Line, QUAD};
use super::matmul::Product;
use super::simd::{LANES, Scalar, Widen};
use mor_math::simd::Simd;

/// Elements of [`QUAD`] columns in a block.
pub(crate) const QUADS: usize = BLOCK / QUAD;
/// Bytes that weights are asked for before they are read.
const AHEAD: usize = 4096;
/// Bytes of 16 rows of a block.
pub(crate) const BLOCK_BYTES: usize = BLOCK * LANES;

/// A block of one token's input.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct InputBlock {
    /// From -127 to 127.
    pub(crate) values: [i8; BLOCK],
    /// -128 times the sum of the values: what instructions that want unsigned weights are to start from.
    pub(crate) correction: i32,
    scale: f32,
}

impl InputBlock {
    /// Four values, as one element to be repeated.
    ///
    /// # Safety
    /// `block` is valid and `quad` below [`QUADS`].
    #[inline(always)]
    pub(crate) unsafe fn quad(block: *const Self, quad: usize) -> i32 {
        // SAFETY: the values come first, and there are four for each quad.
        unsafe { block.cast::<i32>().add(quad).read() }
    }
}

/// How an instruction set multiplies int8 values.
///
/// # Safety
/// Callers make sure that the processor has the instructions.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Dot<S: Simd> {
    /// Sums over a block for 16 rows, times each of `T` inputs. `weights` is valid for [`BLOCK_BYTES`], `inputs` for
    /// `T` blocks.
    unsafe fn block<const T: usize>(weights: *const i8, inputs: *const InputBlock) -> [S::V; T];

    /// Says that a cache line will be read soon. It need not exist.
    #[inline(always)]
    fn prefetch(_line: *const i8) {}
}

/// Cache lines of a panel: `[block][column / 4][row][column % 4]` values and after them `[block][row]` scales, in f16.
pub(crate) fn panel_lines(cols: usize) -> usize {
    let blocks = cols.div_ceil(BLOCK);
    blocks * QUADS + blocks.div_ceil(2)
}

/// Line and byte of a scale, from the end of the panel's values on.
pub(crate) fn scale_at(block: usize, row: usize) -> (usize, usize) {
    (block / 2, (block % 2 * LANES + row) * size_of::<f16>())
}

/// Rounds a row of `cols` values; its blocks are written `step` apart.
///
/// # Safety
/// `x` is valid for `cols` values, `out` for `(blocks - 1) * step + 1` blocks.
#[inline(always)]
pub(crate) unsafe fn quantize(x: *const f32, cols: usize, out: *mut InputBlock, step: usize) {
    // Adding 1.5 · 2²³ leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    for block in 0..cols.div_ceil(BLOCK) {
        let mut values = [0.0_f32; BLOCK];
        let width = (cols - block * BLOCK).min(BLOCK);
        // SAFETY: `width` values are left.
        let from = unsafe { std::slice::from_raw_parts(x.add(block * BLOCK), width) };
        if let Ok(whole) = <[f32; BLOCK]>::try_from(from) {
            values = whole;
        } else {
            values[..width].copy_from_slice(from);
        }
        // Without their sign, floats compare like integers, which the compiler vectorises.
        let mut largest = 0;
        for value in values {
            largest = largest.max(value.to_bits() & 0x7FFF_FFFF);
        }
        let largest = f32::from_bits(largest);
        // Less than the smallest normal number is nothing, and its reciprocal would be infinite.
        let inverse = if largest < f32::MIN_POSITIVE * 127.0 {
            0.0
        } else {
            127.0 / largest
        };
        let mut result = InputBlock {
            scale: largest * (1.0 / 127.0),
            ..InputBlock::default()
        };
        let mut sum = 0;
        for (to, value) in result.values.iter_mut().zip(values) {
            let rounded = (value * inverse + ROUND).to_bits() as i8;
            *to = rounded;
            sum += i32::from(rounded);
        }
        result.correction = -128 * sum;
        // SAFETY: by the caller's promise.
        unsafe { *out.add(block * step) = result };
    }
}

/// Sums of 16 rows times `T` inputs, whose blocks are interleaved.
///
/// # Safety
/// `values` and `scales` are a panel of `blocks` blocks, and `inputs` has `blocks * T` of them.
#[inline(always)]
unsafe fn panel<S: Widen, D: Dot<S>, const T: usize>(
    values: *const i8,
    scales: *const f16,
    inputs: *const InputBlock,
    blocks: usize,
) -> [S::V; T] {
    // SAFETY: every offset stays inside the shapes of the contract.
    unsafe {
        let mut sums = [S::splat(0.0); T];
        for block in 0..blocks {
            if T == 1 {
                // The processor's own guesses end with the page.
                for line in 0..QUADS {
                    let ahead = block * BLOCK_BYTES + AHEAD + line * size_of::<Line>();
                    D::prefetch(values.wrapping_add(ahead));
                }
            }
            let inputs = inputs.add(block * T);
            let dots = D::block::<T>(values.add(block * BLOCK_BYTES), inputs);
            let scale = S::load_f16(scales.add(block * LANES));
            for token in 0..T {
                let scale = S::mul(scale, S::splat((*inputs.add(token)).scale));
                sums[token] = S::mul_add(dots[token], scale, sums[token]);
            }
        }
        sums
    }
}

/// Computes the output rows of `panels`. Several inputs come in tiles of `T`, `[tile][block][T]`.
///
/// # Safety
/// `weights` is the whole matrix, `panels` lies inside it, and the pointers of `product` are valid for its shape.
/// Nobody else touches these panels' part of the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn matmul<S: Widen, D: Dot<S>, const T: usize>(
    weights: *const Line,
    panels: Range<usize>,
    product: &Product<InputBlock>,
) {
    let blocks = product.cols.div_ceil(BLOCK);
    for index in panels {
        // SAFETY: offsets stay inside the shapes of the contract.
        unsafe {
            let values = weights.add(index * panel_lines(product.cols));
            let scales = values.add(blocks * QUADS).cast::<f16>();
            let values = values.cast::<i8>();
            if product.tokens == 1 {
                let [sum] = panel::<S, D, 1>(values, scales, product.input, blocks);
                product.finish::<S>(index, 0, sum);
                continue;
            }
            for first in (0..product.tokens).step_by(T) {
                let inputs = product.input.add(first * blocks);
                let sums = panel::<S, D, T>(values, scales, inputs, blocks);
                for (i, sum) in sums.into_iter().enumerate() {
                    if first + i < product.tokens {
                        product.finish::<S>(index, first + i, sum);
                    }
                }
            }
        }
    }
}

/// Plain loops: the reference, and the fallback.
pub(crate) struct Plain;

impl Dot<Scalar> for Plain {
    #[inline(always)]
    unsafe fn block<const T: usize>(
        weights: *const i8,
        inputs: *const InputBlock,
    ) -> [[[f32; LANES / 2]; 2]; T] {
        let mut sums = [[[0.0; LANES / 2]; 2]; T];
        // SAFETY: by the trait's contract.
        let weights = unsafe { &*weights.cast::<[[[i8; QUAD]; LANES]; QUADS]>() };
        // SAFETY: likewise; the caller has `T` inputs there.
        let inputs = unsafe { std::slice::from_raw_parts(inputs, T) };
        for (sums, input) in sums.iter_mut().zip(inputs) {
            let mut whole = [0_i32; LANES];
            for (quad, weights) in weights.iter().enumerate() {
                let input = &input.values[quad * QUAD..][..QUAD];
                for (sum, weights) in whole.iter_mut().zip(weights) {
                    for (w, x) in weights.iter().zip(input) {
                        *sum += i32::from(*w) * i32::from(*x);
                    }
                }
            }
            for (sum, whole) in sums.as_flattened_mut().iter_mut().zip(whole) {
                *sum = whole as f32;
            }
        }
        sums
    }
}
