//! One step of one layer over a block of positions, spread over the threads.
#![allow(unsafe_code)]

use mor_config::ModelConfig;

use crate::Result;
use crate::cache::{CacheShape, StepCache, zeroed};
use crate::cpu::attention::Query;
use crate::cpu::linear;
use crate::cpu::matmul::Activation;
use crate::cpu::matrix::padded;
use crate::cpu::simd::LANES;
use crate::model::{Layer, Linear, Model, Norm, PositionTable};
use crate::pool::Pool;

/// Scratch memory of a decoder.
pub(crate) struct Buffers {
    /// Step projection of the block, `[token][width]`.
    z: Vec<f32>,
    /// Queries, keys and values, `[token][3 dim, padded]`.
    qkv: Vec<f32>,
    /// Attention's result before its output projection, `[token][width]`.
    mixed: Vec<f32>,
    /// What is added to the residual stream, `[token][width]`.
    update: Vec<f32>,
    /// Feed-forward's hidden layer, `[token][intermediate, padded]`.
    inner: Vec<f32>,
    /// Per thread: attention scores, one head's result, and one key.
    scratch: Vec<Vec<f32>>,
    /// A router's input, or the head's, `[width]`.
    pub(crate) pooled: Vec<f32>,
    /// A router's hidden layer.
    pub(crate) router_hidden: Vec<f32>,
}

impl Buffers {
    pub(crate) fn new(config: &ModelConfig, block: usize, threads: usize) -> Result<Self> {
        let context = config.max_position_embeddings;
        let of = |width: usize| zeroed(padded(width).checked_mul(block), context);
        let dim = config.hidden_size;
        linear::reserve(dim.max(config.intermediate_size), block);
        let scratch = padded(context) + padded(config.head_dim());
        Ok(Self {
            z: of(dim)?,
            qkv: of(3 * dim)?,
            mixed: of(dim)?,
            update: of(dim)?,
            inner: of(config.intermediate_size)?,
            scratch: vec![vec![0.0; scratch]; threads],
            pooled: vec![0.0; padded(dim)],
            router_hidden: vec![0.0; padded(config.router_hidden())],
        })
    }
}

/// A buffer whose parts different threads write.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: users write disjoint parts; each use says which.
unsafe impl Sync for Shared {}

impl Shared {
    fn of(buffer: &mut [f32]) -> Self {
        Self(buffer.as_mut_ptr())
    }

    /// By method, so that closures capture the whole wrapper and not the bare pointer.
    fn get(self) -> *mut f32 {
        self.0
    }
}

/// Everything one step needs.
pub(crate) struct Stage<'a> {
    pub(crate) model: &'a Model,
    pub(crate) layer: &'a Layer,
    pub(crate) pool: &'a mut Pool,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) shape: CacheShape,
    pub(crate) mask: &'a [f32],
    /// First position of the block.
    pub(crate) first: usize,
    /// Positions in the block.
    pub(crate) tokens: usize,
    /// Elements between the rows of `z`, `mixed`, `update` and the hidden states.
    pub(crate) width: usize,
}

impl Stage<'_> {
    /// Applies the step to the block's rows of the residual stream, `[token][width]`.
    pub(crate) fn step(mut self, step: usize, cache: &mut StepCache, rows: &mut [f32]) {
        let (layer, width, tokens) = (self.layer, self.width, self.tokens);
        let kernels = &self.model.kernels;
        let linear = |pool: &mut Pool, linear: &Linear, input: &[f32], output: &mut [f32], act| {
            kernels.rows_on(pool, linear, input, output, tokens, act);
        };
        let buffers = &mut *self.buffers;
        linear(
            self.pool,
            &layer.step_projections[step],
            rows,
            &mut buffers.z,
            Activation::None,
        );
        linear(
            self.pool,
            &layer.qkv,
            &buffers.z,
            &mut buffers.qkv,
            Activation::None,
        );
        self.attend(cache);
        let buffers = &mut *self.buffers;
        let output = &layer.attention_output;
        linear(
            self.pool,
            output,
            &buffers.mixed,
            &mut buffers.update,
            Activation::None,
        );
        self.add_norm(&layer.norm1, rows);
        let buffers = &mut *self.buffers;
        linear(
            self.pool,
            &layer.linear1,
            rows,
            &mut buffers.inner,
            Activation::Gelu,
        );
        linear(
            self.pool,
            &layer.linear2,
            &buffers.inner,
            &mut buffers.update,
            Activation::None,
        );
        self.add_norm(&layer.norm2, rows);
        debug_assert!(rows.len() >= (tokens - 1) * width + self.model.config.hidden_size);
    }

    /// Rotates and caches the block's keys and values, then mixes values for its queries, head by head.
    fn attend(&mut self, cache: &mut StepCache) {
        let Self {
            shape,
            first,
            tokens,
            width,
            mask,
            ..
        } = *self;
        let CacheShape {
            heads, head_dim, ..
        } = shape;
        let dim = heads * head_dim;
        let qkv_stride = padded(3 * dim);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let (kernels, positions) = (&self.model.kernels, &self.model.positions);
        let qkv = Shared::of(&mut self.buffers.qkv);
        let mixed = Shared::of(&mut self.buffers.mixed);
        let keys = Shared::of(&mut cache.keys);
        let values = Shared::of(&mut cache.values);
        let scratch = SharedScratch(self.buffers.scratch.as_mut_ptr());
        self.pool.run(heads, |head, thread| {
            // SAFETY: no two calls for one thread overlap, so its scratch is its own. A head's channels
            // of `qkv` and `mixed`, and its caches, are touched by this call only; all offsets stay
            // inside the buffers, whose sizes follow from the same configuration.
            unsafe {
                let scratch = scratch.of(thread);
                let keys = keys.get().add(head * shape.key_stride());
                let values = values.get().add(head * shape.value_stride());
                for token in 0..tokens {
                    let position = first + token;
                    let q = qkv.get().add(token * qkv_stride + head * head_dim);
                    let (k, v) = (q.add(dim), q.add(2 * dim));
                    let q = std::slice::from_raw_parts_mut(q, head_dim);
                    let k = std::slice::from_raw_parts_mut(k, head_dim);
                    if let PositionTable::Rotary { cos, sin } = positions {
                        let pairs = position * (head_dim / 2)..(position + 1) * (head_dim / 2);
                        rotate(q, &cos[pairs.clone()], &sin[pairs.clone()]);
                        rotate(k, &cos[pairs.clone()], &sin[pairs]);
                    }
                    q.iter_mut().for_each(|x| *x *= scale);
                    let key = keys.add(shape.key_at(position));
                    for (channel, x) in k.iter().enumerate() {
                        *key.add(channel * LANES) = *x;
                    }
                    for channel in 0..head_dim {
                        *values.add(shape.value_at(position, channel)) = *v.add(channel);
                    }
                }
                let (scores, out) = scratch.split_at_mut(shape.capacity);
                for token in 0..tokens {
                    kernels.attend(&Query {
                        q: qkv.get().add(token * qkv_stride + head * head_dim),
                        keys,
                        values,
                        mask: mask.as_ptr(),
                        len: first + token + 1,
                        head_dim,
                        capacity: shape.capacity,
                        scores: scores.as_mut_ptr(),
                        out: out.as_mut_ptr(),
                    });
                    let to = mixed.get().add(token * width + head * head_dim);
                    to.copy_from_nonoverlapping(out.as_ptr(), head_dim);
                }
            }
        });
    }

    /// `rows = norm(rows + update)`.
    fn add_norm(&mut self, norm: &Norm, rows: &mut [f32]) {
        let (width, tokens) = (self.width, self.tokens);
        let eps = self.model.config.layer_norm_eps;
        for token in 0..tokens {
            let row = &mut rows[token * width..][..norm.gain.len()];
            let update = &self.buffers.update[token * width..][..norm.gain.len()];
            self.model.kernels.add_norm_row(row, update, norm, eps);
        }
    }
}

/// The threads' scratch buffers.
#[derive(Clone, Copy)]
struct SharedScratch(*mut Vec<f32>);

// SAFETY: each thread takes its own.
unsafe impl Sync for SharedScratch {}

impl SharedScratch {
    /// # Safety
    /// At most one reference per thread at a time, while the buffers live.
    unsafe fn of<'a>(self, thread: usize) -> &'a mut [f32] {
        unsafe { (*self.0.add(thread)).as_mut_slice() }
    }
}

/// Rotates the pairs `(i, i + half)` by their angles.
fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(x.len() / 2);
    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
