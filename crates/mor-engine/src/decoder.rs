//! Incremental decoding with routed depth.
//!
//! A layer's depth is chosen from the mean of its inputs over all positions, so a new token can change
//! it for every earlier position too. The decoder keeps each layer's inputs and a running sum of them.
//! While no depth changes, a token costs one token's work; when layer `l` takes another depth, that
//! layer and those above run again for every position. Either way the result is that of running
//! the whole sequence at once.

use std::sync::Arc;

use mor_config::{Depth, ModelConfig};

use crate::cache::{CacheShape, StepCache, zeroed};
use crate::cpu::attention::HIDDEN;
use crate::cpu::matmul::Activation;
use crate::cpu::matrix::padded;
use crate::model::{Layer, Model, PositionTable};
use crate::pool::Pool;
use crate::stage::{Buffers, Stage};
use crate::{EngineError, Result};

/// Positions that pass through a layer together: each weight is read once for all of them.
const BLOCK: usize = 128;

/// How a decoder runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeOptions {
    /// Depth of every layer; as configured by default.
    pub depth: Depth,
    /// Threads, the caller's included; 0 picks [`DecodeOptions::default_threads`]. Always 1 in
    /// the browser.
    pub threads: usize,
}

impl DecodeOptions {
    /// As many threads as there are processors, at most 4: decoding is bound by memory.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get().min(4))
    }
}

/// What the model made of the context so far; see the module's description.
pub struct Decoder {
    model: Arc<Model>,
    /// `None` where routers decide.
    fixed_depth: Option<usize>,
    pool: Pool,
    shape: CacheShape,
    /// Step caches, `[layer][step]`.
    caches: Vec<Vec<StepCache>>,
    ids: Vec<u32>,
    /// Added to attention scores: 0, or [`HIDDEN`] at pads; whole panels.
    mask: Vec<f32>,
    /// Whether some of `mask` came from the caller, and so does not follow from the ids.
    masked: bool,
    /// Inputs of each layer and the last layer's output, `[position][width]`; a single buffer, updated in
    /// place, where depth is fixed.
    hidden: Vec<Vec<f32>>,
    /// Elements between the rows of `hidden`.
    width: usize,
    /// Per layer, the sum of its inputs over all positions. In f64, so that it does not matter in which
    /// portions it was added up.
    sums: Vec<Vec<f64>>,
    steps: Vec<u8>,
    probabilities: Vec<Vec<f32>>,
    buffers: Buffers,
    logits: Vec<f32>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("ids", &self.ids)
            .field("steps", &self.steps)
            .finish()
    }
}

impl Decoder {
    /// An empty context with all memory it will ever need.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the depth exceeds the model's step projections,
    /// [`EngineError::OutOfMemory`], or [`EngineError::Thread`].
    pub fn new(model: Arc<Model>, options: DecodeOptions) -> Result<Self> {
        let config = &model.config;
        let fixed_depth = config.resolve_depth(options.depth)?;
        let context = config.max_position_embeddings;
        let shape = CacheShape::new(config.num_attention_heads, config.head_dim(), context);
        let steps = fixed_depth.unwrap_or(config.routing.max_steps);
        // The sum is checked first: a context that cannot fit should fail before it is allocated.
        let elements = shape
            .elements()
            .and_then(|n| n.checked_mul(steps * model.layers.len()));
        elements
            .and_then(|n| n.checked_mul(4))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or(EngineError::OutOfMemory {
                context,
                bytes: usize::MAX,
            })?;
        let mut caches = Vec::with_capacity(model.layers.len());
        for _ in &model.layers {
            let layer: Result<Vec<_>> = (0..steps).map(|_| shape.allocate(context)).collect();
            caches.push(layer?);
        }
        let width = padded(config.hidden_size);
        let kept = if fixed_depth.is_some() {
            1
        } else {
            model.layers.len() + 1
        };
        let hidden: Result<Vec<_>> = (0..kept)
            .map(|_| zeroed(context.checked_mul(width), context))
            .collect();
        let threads = match options.threads {
            0 => DecodeOptions::default_threads(),
            threads => threads,
        };
        let pool = Pool::new(threads)?;
        let buffers = Buffers::new(config, BLOCK.min(context), pool.threads())?;
        Ok(Self {
            fixed_depth,
            shape,
            caches,
            ids: Vec::with_capacity(context),
            mask: vec![0.0; padded(context)],
            masked: false,
            hidden: hidden?,
            width,
            sums: vec![vec![0.0; config.hidden_size]; model.layers.len()],
            steps: vec![fixed_depth.unwrap_or(0) as u8; model.layers.len()],
            probabilities: vec![
                vec![0.0; padded(config.routing.max_steps + 1)];
                model.layers.len()
            ],
            buffers,
            logits: vec![0.0; padded(config.vocab_size)],
            pool,
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Most tokens the context holds.
    pub fn capacity(&self) -> usize {
        self.model.config.max_position_embeddings
    }

    /// Logits after the last token, `[vocab_size]`; zeros while the context is empty.
    pub fn logits(&self) -> &[f32] {
        &self.logits[..self.model.config.vocab_size]
    }

    /// Steps that each layer took at the last token, `[layers]`.
    pub fn steps(&self) -> &[u8] {
        &self.steps
    }

    /// What a layer's router said at the last token, `[max_steps + 1]`; empty where depth is fixed.
    pub fn router_probabilities(&self, layer: usize) -> &[f32] {
        match (self.fixed_depth, self.probabilities.get(layer)) {
            (None, Some(row)) => &row[..self.model.config.routing.max_steps + 1],
            _ => &[],
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Appends tokens, reading them in blocks.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::TokenOutOfRange`] or [`EngineError::ContextFull`];
    /// the context is as before then.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.append(ids, None)
    }

    /// As [`Self::prefill`], where `visible` says which of the tokens later ones may see, instead of
    /// hiding pads.
    ///
    /// # Errors
    /// As for [`Self::prefill`], or [`EngineError::Option`] when the lengths differ.
    pub fn prefill_masked(&mut self, ids: &[u32], visible: &[bool]) -> Result<()> {
        if ids.len() != visible.len() {
            return Err(EngineError::Option {
                option: "visible",
                value: format!("{} long", visible.len()),
                allowed: "as long as the tokens",
            });
        }
        self.append(ids, Some(visible))
    }

    /// Appends one token.
    ///
    /// # Errors
    /// As for [`Self::prefill`].
    pub fn push(&mut self, id: u32) -> Result<()> {
        self.append(&[id], None)
    }

    /// Makes `ids` the context, reusing what it has in common with the present one.
    ///
    /// # Errors
    /// As for [`Self::prefill`]; the context may be shorter then.
    pub fn set_context(&mut self, ids: &[u32]) -> Result<()> {
        let common = self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        // Routers saw all of the present context, so a shorter one says nothing about it. And the last
        // token always runs, for its logits.
        let reusable = match self.fixed_depth {
            _ if self.masked => 0,
            Some(_) => common.min(ids.len().saturating_sub(1)),
            None if common == self.ids.len() && common < ids.len() => common,
            None => 0,
        };
        self.truncate(reusable);
        self.append(&ids[reusable..], None)
    }

    /// Logits after the token at `position`, `[vocab_size]`, as a pass over the whole context gives them.
    /// Costs one output head.
    ///
    /// # Errors
    /// [`EngineError::Option`] when there is no such position or `out` has another length.
    pub fn logits_at(&mut self, position: usize, out: &mut [f32]) -> Result<()> {
        if position >= self.ids.len() {
            return Err(EngineError::Option {
                option: "position",
                value: position.to_string(),
                allowed: "below the number of tokens",
            });
        }
        if out.len() != self.model.config.vocab_size {
            return Err(EngineError::Option {
                option: "length",
                value: out.len().to_string(),
                allowed: "the vocabulary's size",
            });
        }
        let last = self.ids.len() - 1;
        self.compute_logits(position);
        out.copy_from_slice(self.logits());
        if position != last {
            self.compute_logits(last);
        }
        Ok(())
    }

    /// Only valid for shorter contexts at fixed depth, or 0.
    fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
        if len == 0 {
            self.masked = false;
            self.sums.iter_mut().for_each(|sum| sum.fill(0.0));
            self.logits.fill(0.0);
        }
    }

    fn append(&mut self, ids: &[u32], visible: Option<&[bool]>) -> Result<()> {
        let ModelConfig {
            vocab_size,
            pad_token_id,
            ..
        } = self.model.config;
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if let Some(&id) = ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(EngineError::TokenOutOfRange { id, vocab_size });
        }
        let start = self.ids.len();
        if ids.len() > self.capacity() - start {
            let (tokens, limit) = (start + ids.len(), self.capacity());
            return Err(EngineError::ContextFull { tokens, limit });
        }
        self.masked |= visible.is_some();
        for (i, &id) in ids.iter().enumerate() {
            let position = start + i;
            let seen = visible.map_or(id != pad_token_id, |visible| visible[i]);
            self.ids.push(id);
            self.mask[position] = if seen { 0.0 } else { HIDDEN };
            self.embed(position, id);
        }
        self.run(start);
        self.compute_logits(self.ids.len() - 1);
        Ok(())
    }

    /// Writes the first layer's input at `position`.
    fn embed(&mut self, position: usize, id: u32) {
        let model = &*self.model;
        let dim = model.config.hidden_size;
        let row = &mut self.hidden[0][position * self.width..][..dim];
        model.embed(id, row);
        if let PositionTable::Added(table) = &model.positions {
            for (x, p) in row.iter_mut().zip(&table[position * dim..]) {
                *x += p;
            }
        }
        model
            .kernels
            .norm_row(row, &model.embedding_norm, model.config.layer_norm_eps);
    }

    /// Takes the positions from `start` on through all layers, and earlier ones through the layers
    /// that must run again.
    fn run(&mut self, mut start: usize) {
        let model = Arc::clone(&self.model);
        let len = self.ids.len();
        for (index, layer) in model.layers.iter().enumerate() {
            if self.fixed_depth.is_none() {
                let depth = self.route(layer, index, start);
                if depth != self.steps[index] {
                    self.steps[index] = depth;
                    start = 0;
                }
                let (before, after) = self.hidden.split_at_mut(index + 1);
                let rows = start * self.width..len * self.width;
                after[0][rows.clone()].copy_from_slice(&before[index][rows]);
            }
            self.run_layer(&model, layer, index, start);
        }
    }

    /// Depth of a layer whose inputs from `start` on are new.
    fn route(&mut self, layer: &Layer, index: usize, start: usize) -> u8 {
        let Some(router) = &layer.router else {
            return self.steps[index];
        };
        let dim = self.model.config.hidden_size;
        let sum = &mut self.sums[index];
        if start == 0 {
            sum.fill(0.0);
        }
        let rows = &self.hidden[index][start * self.width..self.ids.len() * self.width];
        for row in rows.chunks_exact(self.width) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
        let count = self.ids.len() as f64;
        let pooled = &mut self.buffers.pooled[..dim];
        for (mean, sum) in pooled.iter_mut().zip(&*sum) {
            *mean = (sum / count) as f32;
        }
        let kernels = &self.model.kernels;
        let hidden = &mut self.buffers.router_hidden;
        kernels.vector(&router.hidden, pooled, hidden, Activation::Gelu);
        let out = &mut self.probabilities[index];
        kernels.vector(&router.output, hidden, out, Activation::None);
        let classes = &mut out[..self.model.config.routing.max_steps + 1];
        let top = classes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The first of equals, as the reference's argmax.
        let depth = classes.iter().position(|x| *x == top).unwrap_or(0);
        classes.iter_mut().for_each(|x| *x = (*x - top).exp());
        let total: f32 = classes.iter().sum();
        classes.iter_mut().for_each(|x| *x /= total);
        depth as u8
    }

    fn run_layer(&mut self, model: &Model, layer: &Layer, index: usize, start: usize) {
        let len = self.ids.len();
        let output = if self.fixed_depth.is_some() {
            0
        } else {
            index + 1
        };
        let depth = usize::from(self.steps[index]);
        let mut first = start;
        while first < len {
            let tokens = (len - first).min(BLOCK);
            for step in 0..depth {
                let rows = &mut self.hidden[output][first * self.width..];
                Stage {
                    model,
                    layer,
                    pool: &mut self.pool,
                    buffers: &mut self.buffers,
                    shape: self.shape,
                    mask: &self.mask,
                    first,
                    tokens,
                    width: self.width,
                }
                .step(step, &mut self.caches[index][step], rows);
            }
            first += tokens;
        }
    }

    fn compute_logits(&mut self, position: usize) {
        let model = &*self.model;
        let last = self.hidden.len() - 1;
        let dim = model.config.hidden_size;
        let row = &mut self.buffers.pooled[..dim];
        row.copy_from_slice(&self.hidden[last][position * self.width..][..dim]);
        model
            .kernels
            .norm_row(row, &model.final_norm, model.config.layer_norm_eps);
        model
            .kernels
            .vector_on(&mut self.pool, &model.head, row, &mut self.logits);
    }
}
