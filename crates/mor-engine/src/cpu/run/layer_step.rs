//! One step of one layer over a few positions, spread over the threads.
#![allow(unsafe_code)]

use mor_config::ModelConfig;

use super::cache::{CacheShape, StepCache, zeroed};
use crate::Result;
use crate::cpu::kernels::Linear;
use crate::cpu::kernels::attention::Query;
use crate::cpu::kernels::linear;
use crate::cpu::kernels::matmul::Activation;
use crate::cpu::kernels::matrix::padded;
use crate::cpu::kernels::simd::LANES;
use crate::cpu::pool::{Pool, SharedPointer};
use crate::cpu::weights::{Block, Model};
use crate::model::{Norm, NormOrder, PositionTable};

/// Scratch memory of a decoder's steps.
pub(crate) struct Buffers {
    /// What attention or, in a pre-LN block, the feed-forward reads, `[row][width]`.
    z: Vec<f32>,
    /// Queries, keys and values, `[row][3 dim, padded]`.
    qkv: Vec<f32>,
    /// Attention's result before its output projection, `[row][width]`.
    mixed: Vec<f32>,
    /// What is added to the residual stream, `[row][width]`.
    update: Vec<f32>,
    /// Feed-forward's hidden layer, `[row][intermediate, padded]`.
    inner: Vec<f32>,
    /// Per thread: attention scores, and one head's result.
    scratch: Vec<Vec<f32>>,
}

impl Buffers {
    /// Room for `rows` rows at once.
    pub(crate) fn new(config: &ModelConfig, rows: usize, threads: usize) -> Result<Self> {
        let context = config.max_position_embeddings;
        let of = |width: usize| zeroed(padded(width).checked_mul(rows), context);
        let dim = config.hidden_size;
        linear::reserve(dim.max(config.intermediate_size), rows);
        let scratch = padded(context) + padded(config.head_dim());
        Ok(Self {
            z: of(dim)?,
            qkv: of(3 * dim)?,
            mixed: of(dim)?,
            update: of(dim)?,
            inner: of(config.intermediate_size)?,
            scratch: vec![vec![0.0; scratch]; threads],
        })
    }
}

/// Everything one step needs.
pub(crate) struct LayerStep<'a> {
    pub(crate) model: &'a Model,
    pub(crate) block: &'a Block,
    /// The technical model's projection for this step.
    pub(crate) projection: Option<&'a Linear>,
    pub(crate) pool: &'a mut Pool,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) shape: CacheShape,
    /// Added to attention scores, by position.
    pub(crate) mask: &'a [f32],
    /// Positions of the rows, increasing.
    pub(crate) positions: &'a [usize],
    /// Rows that products run on: at least those of `positions`, and what comes of more is not used.
    pub(crate) product_rows: usize,
    /// Elements between the rows of `z`, `mixed`, `update` and the residual stream.
    pub(crate) width: usize,
}

impl LayerStep<'_> {
    /// Applies the step to rows of the residual stream, `[row][width]`.
    pub(crate) fn run(mut self, cache: &mut StepCache, rows: &mut [f32]) {
        let block = self.block;
        // A post-LN block reads its input through the step's projection, a pre-LN block through its norm.
        match self.projection {
            None => self.norm(&block.norm1, rows),
            Some(projection) => {
                let (kernels, z) = (&self.model.kernels, &mut self.buffers.z);
                kernels.rows_on(
                    self.pool,
                    projection,
                    rows,
                    z,
                    self.product_rows,
                    Activation::None,
                );
            }
        }
        let Buffers { z, qkv, .. } = &mut *self.buffers;
        let (kernels, count) = (&self.model.kernels, self.product_rows);
        kernels.rows_on(self.pool, &block.qkv, z, qkv, count, Activation::None);
        self.attend(cache);
        let Buffers { mixed, update, .. } = &mut *self.buffers;
        let output = &block.attention_output;
        kernels.rows_on(self.pool, output, mixed, update, count, Activation::None);
        self.add(&block.norm1, rows);

        if self.model.norm_order == NormOrder::Pre {
            self.norm(&block.norm2, rows);
        }
        let Buffers {
            z, inner, update, ..
        } = &mut *self.buffers;
        let input = match self.model.norm_order {
            NormOrder::Pre => z,
            NormOrder::Post => &*rows,
        };
        kernels.rows_on(
            self.pool,
            &block.linear1,
            input,
            inner,
            count,
            Activation::Gelu,
        );
        kernels.rows_on(
            self.pool,
            &block.linear2,
            inner,
            update,
            count,
            Activation::None,
        );
        self.add(&block.norm2, rows);
    }

    /// `z = norm(rows)`.
    fn norm(&mut self, norm: &Norm, rows: &[f32]) {
        let (model, dim) = (self.model, norm.gain.len());
        let z = self.buffers.z.chunks_exact_mut(self.width);
        for (z, row) in z.zip(rows.chunks(self.width)).take(self.positions.len()) {
            let z = &mut z[..dim];
            z.copy_from_slice(&row[..dim]);
            model.kernels.norm_row(z, norm, model.config.layer_norm_eps);
        }
    }

    /// `rows = rows + update`, normalised in a post-LN block.
    fn add(&mut self, norm: &Norm, rows: &mut [f32]) {
        let (model, dim) = (self.model, norm.gain.len());
        let updates = self.buffers.update.chunks_exact(self.width);
        for (row, update) in rows
            .chunks_mut(self.width)
            .zip(updates)
            .take(self.positions.len())
        {
            let (row, update) = (&mut row[..dim], &update[..dim]);
            match model.norm_order {
                NormOrder::Post => {
                    let eps = model.config.layer_norm_eps;
                    model.kernels.add_norm_row(row, update, norm, eps);
                }
                NormOrder::Pre => row.iter_mut().zip(update).for_each(|(x, u)| *x += u),
            }
        }
    }

    /// Rotates and caches the rows' keys and values, then mixes values for their queries, head by head.
    fn attend(&mut self, cache: &mut StepCache) {
        let Self {
            shape,
            positions: rows,
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
        let qkv = SharedPointer(self.buffers.qkv.as_mut_ptr());
        let mixed = SharedPointer(self.buffers.mixed.as_mut_ptr());
        let keys = SharedPointer(cache.keys.as_mut_ptr());
        let values = SharedPointer(cache.values.as_mut_ptr());
        let scratches = SharedPointer(self.buffers.scratch.as_mut_ptr());
        assert!(rows.len() <= self.product_rows && mask.len() == shape.capacity);
        assert!(rows.iter().all(|position| *position < shape.capacity));
        self.pool.run(heads, |head, thread| {
            // SAFETY: no two calls for one thread overlap, so its scratch is its own. A head's channels
            // of `qkv` and `mixed`, and its caches, are touched by this call only; all offsets stay
            // inside the buffers, whose sizes follow from the same configuration.
            unsafe {
                let scratch = (*scratches.get().add(thread)).as_mut_slice();
                let keys = keys.get().add(head * shape.key_stride());
                let values = values.get().add(head * shape.value_stride());
                for (token, &position) in rows.iter().enumerate() {
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
                for (token, position) in rows.iter().enumerate() {
                    kernels.attend(&Query {
                        q: qkv.get().add(token * qkv_stride + head * head_dim),
                        keys,
                        values,
                        mask: mask.as_ptr(),
                        len: position + 1,
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
}

/// Rotates the pairs `(i, i + half)` by their angles.
fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(x.len() / 2);
    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
