//! Linear layers over rows, on all threads or on the caller's.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use mor_config::QUANTIZED_BLOCK as BLOCK;

use super::Kernels;
use super::matmul::{Activation, Product};
use super::matrix::{Matrix, Values, padded};
use super::q8::InputBlock;
use crate::cpu::pool::{Pool, SharedPointer, share};
use crate::model::{self, Norm};

/// A linear layer whose matrix is packed for these kernels.
pub(crate) type Linear = model::Linear<Matrix>;

/// Least bytes of weights, times tokens, that a part of a product reads.
const PART_BYTES: usize = 96 << 10;
/// Most parts of a product for each thread.
const PARTS_PER_THREAD: usize = 6;
/// Least tokens whose preparation is worth handing out.
const TOKENS_SHARED: usize = 16;

/// Inputs as the kernels take them. Kept by each thread that calls, since decoding a token should allocate nothing.
#[derive(Default)]
struct Scratch {
    tiles: Vec<f32>,
    blocks: Vec<InputBlock>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Makes room for this thread's products of up to `tokens` rows of up to `cols` values.
pub(crate) fn reserve(cols: usize, tokens: usize) {
    /// At least as many tokens as any kernel's tile.
    const TILE: usize = 16;
    SCRATCH.with_borrow_mut(|scratch| {
        make_room(&mut scratch.tiles, tokens, TILE, cols);
        make_room(&mut scratch.blocks, tokens, TILE, cols.div_ceil(BLOCK));
    });
}

/// Input rows of a product.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    tokens: usize,
    cols: usize,
}

impl Rows<'_> {
    fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.stride..][..self.cols]
    }
}

impl<I: Copy> Product<I> {
    /// Calls `kernel` for all panels of `matrix`, in parts of whole `group`s of panels.
    fn on(
        self,
        pool: Option<&mut Pool>,
        matrix: &Matrix,
        group: usize,
        kernel: impl Fn(Range<usize>, &Self) + Sync,
    ) {
        let Some(pool) = pool.filter(|pool| pool.threads() > 1) else {
            return kernel(0..matrix.panels(), &self);
        };
        // Parts large enough to be worth handing out, and small enough to even out.
        let work = matrix.bytes() * self.tokens / PART_BYTES;
        let parts = work.clamp(1, pool.threads() * PARTS_PER_THREAD);
        let groups = matrix.panels().div_ceil(group);
        let product = SharedPointer((&raw const self).cast_mut());
        pool.run(parts, |part, _| {
            let groups = share(groups, part, parts);
            let panels = groups.start * group..(groups.end * group).min(matrix.panels());
            // SAFETY: the product is only read, and outlives the run.
            kernel(panels, unsafe { &*product.get() });
        });
    }
}

impl Kernels {
    /// `output = activation(linear(input))` for `tokens` rows, both filled up to whole panels.
    pub(crate) fn rows_on(
        &self,
        pool: &mut Pool,
        linear: &Linear,
        input: &[f32],
        output: &mut [f32],
        tokens: usize,
        activation: Activation,
    ) {
        let cols = linear.matrix.cols();
        let rows = Rows {
            values: input,
            stride: padded(cols),
            tokens,
            cols,
        };
        self.product(Some(pool), linear, rows, output, activation);
    }

    /// One vector through a linear layer, on all threads.
    pub(crate) fn vector_on(
        &self,
        pool: &mut Pool,
        linear: &Linear,
        input: &[f32],
        output: &mut [f32],
    ) {
        self.rows_on(pool, linear, input, output, 1, Activation::None);
    }

    /// One vector through a linear layer, on this thread.
    pub(crate) fn vector(
        &self,
        linear: &Linear,
        input: &[f32],
        output: &mut [f32],
        activation: Activation,
    ) {
        let cols = linear.matrix.cols();
        let rows = Rows {
            values: input,
            stride: cols,
            tokens: 1,
            cols,
        };
        self.product(None, linear, rows, output, activation);
    }

    fn product(
        &self,
        mut pool: Option<&mut Pool>,
        linear: &Linear,
        rows: Rows<'_>,
        output: &mut [f32],
        activation: Activation,
    ) {
        let matrix = &linear.matrix;
        let (tokens, cols) = (rows.tokens, rows.cols);
        let output_stride = padded(matrix.rows());
        assert!(cols == matrix.cols() && tokens > 0);
        assert!(rows.values.len() >= (tokens - 1) * rows.stride + cols);
        assert!(output.len() >= tokens * output_stride);
        assert!(linear.bias.is_empty() || linear.bias.len() == output_stride);
        let product = Product {
            input: rows.values.as_ptr(),
            output: output.as_mut_ptr(),
            output_stride,
            bias: if linear.bias.is_empty() {
                std::ptr::null()
            } else {
                linear.bias.as_ptr()
            },
            tokens,
            cols,
            activation,
        };
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY of the kernels: the instruction set was detected, the lengths were checked, and calls write the
            // columns of disjoint panels.
            if let Values::Q8(values) = matrix.values() {
                let tile = if tokens == 1 { 1 } else { self.tile_q8 };
                self.quantized(pool.as_deref_mut(), rows, tile, &mut scratch.blocks);
                let product = product.with(scratch.blocks.as_ptr());
                // SAFETY: the kernels are of an instruction set that was found; the lengths were checked, and calls write the columns
                // of disjoint panels, which outlive them.
                return product.on(pool, matrix, 1, |panels, product| unsafe {
                    (self.matmul_q8)(values.as_ptr(), panels, product);
                });
            }
            let (mut group, mut product) = (1, product);
            if tokens > 1 {
                let tile;
                (group, tile) = self.tile;
                tiled(pool.as_deref_mut(), rows, tile, &mut scratch.tiles);
                product = product.with(scratch.tiles.as_ptr());
            }
            // SAFETY: as above.
            product.on(pool, matrix, group, |panels, product| unsafe {
                match matrix.values() {
                    Values::F32(v) => (self.matmul_f32)(v.as_ptr().cast(), panels, product),
                    Values::F16(v) => (self.matmul_f16)(v.as_ptr().cast(), panels, product),
                    Values::Q8(_) => {}
                }
            });
        });
    }

    /// Rounds rows to int8, `[tile][block][token]`.
    fn quantized(
        &self,
        pool: Option<&mut Pool>,
        rows: Rows<'_>,
        tile: usize,
        out: &mut Vec<InputBlock>,
    ) {
        let blocks = rows.cols.div_ceil(BLOCK);
        make_room(out, rows.tokens, tile, blocks);
        let out = SharedPointer(out.as_mut_ptr());
        each_token(pool, rows.tokens, |token| {
            // SAFETY: the instruction set was detected. Each token writes its own blocks, of which there are enough.
            unsafe {
                let out = out.get().add(token / tile * tile * blocks + token % tile);
                (self.quantize)(rows.row(token).as_ptr(), rows.cols, out, tile);
            }
        });
    }

    /// Normalises a row in place.
    pub(crate) fn norm_row(&self, row: &mut [f32], norm: &Norm, eps: f32) {
        assert!(row.len() == norm.gain.len() && row.len() == norm.bias.len());
        let x = row.as_mut_ptr();
        // SAFETY: the lengths were checked.
        unsafe { self.add_norm(x, std::ptr::null(), (&norm.gain, &norm.bias), eps, x) };
    }

    /// `row = norm(row + add)`.
    pub(crate) fn add_norm_row(&self, row: &mut [f32], add: &[f32], norm: &Norm, eps: f32) {
        assert!(row.len() == norm.gain.len() && row.len() == norm.bias.len());
        assert!(add.len() == row.len());
        let x = row.as_mut_ptr();
        // SAFETY: the lengths were checked.
        unsafe { self.add_norm(x, add.as_ptr(), (&norm.gain, &norm.bias), eps, x) };
    }
}

impl<I> Product<I> {
    /// The same product of another form of its input.
    fn with<J>(self, input: *const J) -> Product<J> {
        Product {
            input,
            output: self.output,
            output_stride: self.output_stride,
            bias: self.bias,
            tokens: self.tokens,
            cols: self.cols,
            activation: self.activation,
        }
    }
}

/// Interleaves rows, `[tile][column][token]`, so that the kernels read them as one stream.
fn tiled(pool: Option<&mut Pool>, rows: Rows<'_>, tile: usize, out: &mut Vec<f32>) {
    make_room(out, rows.tokens, tile, rows.cols);
    let out = SharedPointer(out.as_mut_ptr());
    each_token(pool, rows.tokens, |token| {
        let start = token / tile * tile * rows.cols + token % tile;
        for (col, x) in rows.row(token).iter().enumerate() {
            // SAFETY: each token writes its own places in a buffer that is large enough.
            unsafe { *out.get().add(start + col * tile) = *x };
        }
    });
}

/// Makes `out` large enough for whole tiles of tokens of `width` elements.
fn make_room<T: Copy + Default>(out: &mut Vec<T>, tokens: usize, tile: usize, width: usize) {
    let len = tokens.next_multiple_of(tile) * width;
    if out.len() < len {
        out.resize(len, T::default());
    }
}

/// Calls `work` for each token.
fn each_token(pool: Option<&mut Pool>, tokens: usize, work: impl Fn(usize) + Sync) {
    match pool {
        Some(pool) if tokens >= TOKENS_SHARED => {
            let parts = pool.threads() * PARTS_PER_THREAD;
            pool.run(parts, |part, _| share(tokens, part, parts).for_each(&work));
        }
        _ => (0..tokens).for_each(work),
    }
}
