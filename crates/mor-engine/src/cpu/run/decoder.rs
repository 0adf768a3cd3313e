//! A context on the CPU.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use mor_config::Pooling;

use super::cache::{CacheShape, zeroed};
use super::forward::{BLOCK, Forward};
use super::layer_state::LayerState;
use super::layer_step::Buffers;
use super::routing::{Pooled, RouterBuffers};
use crate::cpu::kernels::attention::HIDDEN;
use crate::cpu::kernels::matrix::padded;
use crate::cpu::pool::Pool;
use crate::cpu::weights::Model;
use crate::history::{Earlier, History};
use crate::model::{groups, most_steps};
use crate::{DecodeOptions, EngineError, Result};

/// What the model made of the context so far.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use mor_engine::{DecodeOptions, Decoder, Model};
///
/// let model = Model::load(Path::new("../../models/technical-10m"))?;
/// let mut decoder = Decoder::new(Arc::new(model), DecodeOptions::default())?;
/// decoder.prefill(&[2, 7, 11])?;
/// let logits = decoder.logits().to_vec();
///
/// // Token by token the same, up to rounding.
/// decoder.reset();
/// for id in [2, 7, 11] {
///     decoder.push(id)?;
/// }
/// let pairs = decoder.logits().iter().zip(&logits);
/// assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-3);
/// # Ok::<(), mor_engine::EngineError>(())
/// ```
pub struct Decoder {
    model: Arc<Model>,
    options: DecodeOptions,
    pool: Pool,
    shape: CacheShape,
    /// Of each of `groups`.
    layers: Vec<LayerState>,
    /// Which of the model's layers recur together.
    groups: Vec<Range<usize>>,
    history: History,
    /// Added to attention scores: 0, or [`HIDDEN`] at pads; whole panels.
    mask: Vec<f32>,
    /// The residual stream, `[position][width]`, and a row more for products of even numbers of rows.
    hidden: Vec<f32>,
    /// Elements between the rows of `hidden`.
    width: usize,
    /// 0, 1, 2, …
    positions: Vec<usize>,
    steps: Vec<u8>,
    /// Positions times steps, over all layers.
    computed: u64,
    buffers: Buffers,
    router: RouterBuffers,
    /// The head's input, `[dim]`.
    last: Vec<f32>,
    logits: Vec<f32>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("ids", &self.history.ids())
            .field("steps", &self.steps)
            .finish()
    }
}

impl Decoder {
    /// An empty context with all memory it will ever need.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the depth exceeds the model's `max_steps`,
    /// [`EngineError::OutOfMemory`], or [`EngineError::Thread`].
    pub fn new(model: Arc<Model>, options: DecodeOptions) -> Result<Self> {
        let config = &model.config;
        let fixed_depth = config.resolve_depth(options.depth)?;
        let context = config.max_position_embeddings;
        let shape = CacheShape::new(config.num_attention_heads, config.head_dim(), context);
        let layers = model.layers.iter();
        let caches: usize = layers
            .map(|layer| most_steps(config, layer.recurs, fixed_depth))
            .sum();
        // The sum is checked first: a context that cannot fit should fail before it is allocated.
        let elements = shape.elements().and_then(|n| n.checked_mul(caches));
        elements
            .and_then(|n| n.checked_mul(4))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or(EngineError::OutOfMemory {
                context,
                bytes: usize::MAX,
            })?;
        let threshold = config.gate_threshold(options.depth);
        let groups = groups(config, model.layers.len());
        let layers = groups.iter().map(|group| &model.layers[group.clone()]);
        let layers: Result<_> = layers
            .map(|layers| LayerState::new(config, layers, shape, fixed_depth, threshold))
            .collect();
        let width = padded(config.hidden_size);
        let threads = match options.threads {
            0 => DecodeOptions::default_threads(),
            threads => threads,
        };
        let pool = Pool::new(threads)?;
        let router_rows = match config.routing.pooling {
            Pooling::Prefix => BLOCK,
            _ => 1,
        };
        Ok(Self {
            options,
            shape,
            layers: layers?,
            groups,
            history: History::new(config, options.routing),
            mask: vec![0.0; padded(context)],
            hidden: zeroed(width.checked_mul(context + 1), context)?,
            width,
            positions: (0..context).collect(),
            steps: vec![fixed_depth.unwrap_or(0) as u8; config.routed_depths()],
            computed: 0,
            buffers: Buffers::new(config, BLOCK, pool.threads())?,
            router: RouterBuffers::new(config, router_rows)?,
            last: vec![0.0; config.hidden_size],
            logits: vec![0.0; padded(config.vocab_size)],
            pool,
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// How it runs.
    pub fn options(&self) -> DecodeOptions {
        self.options
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The tokens so far.
    pub fn ids(&self) -> &[u32] {
        self.history.ids()
    }

    /// Most tokens the context holds.
    pub fn capacity(&self) -> usize {
        self.history.capacity()
    }

    /// Logits after the last token, `[vocab_size]`; zeros while the context is empty.
    pub fn logits(&self) -> &[f32] {
        &self.logits[..self.model.config.vocab_size]
    }

    /// Steps taken at the last token, by each layer in turn or by the shared block:
    /// `[ModelConfig::routed_depths]`.
    pub fn steps(&self) -> &[u8] {
        &self.steps
    }

    /// As [`Self::steps`], at any position of the context; as at the last one where depth is the sequence's.
    pub fn steps_at(&self, position: usize) -> impl Iterator<Item = u8> + '_ {
        let recursive = self.recursive();
        recursive.map(move |layer| layer.steps_at(position))
    }

    /// Steps computed since the decoder was made: one for each position, each time a block was applied to it.
    /// Tells what routing saves, and what its changes cost.
    pub fn steps_computed(&self) -> u64 {
        self.computed
    }

    /// What a router said at the last token it decided on, a probability for each of its classes
    /// ([`mor_config::RoutingConfig::steps_of_classes`]); empty where depth is fixed. Routers are counted as
    /// [`Self::steps`] are.
    pub fn router_probabilities(&self, router: usize) -> &[f32] {
        let layer = self.recursive().nth(router);
        layer.map_or(&[], LayerState::probabilities)
    }

    fn recursive(&self) -> impl Iterator<Item = &LayerState> {
        self.layers.iter().filter(|layer| layer.recurs())
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
        self.history.clear();
    }

    /// Appends tokens, reading them in blocks. Locked routers decide on the first tokens of a context only.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::TokenOutOfRange`] or [`EngineError::ContextFull`];
    /// the context is as before then.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.append(ids, None, false)
    }

    /// As [`Self::prefill`], where `visible` says which of the tokens later ones may see, instead of
    /// hiding pads. Routers that leave pads out leave out what is hidden.
    ///
    /// # Errors
    /// As for [`Self::prefill`], or [`EngineError::Option`] when the lengths differ.
    pub fn prefill_masked(&mut self, ids: &[u32], visible: &[bool]) -> Result<()> {
        self.append(ids, Some(visible), false)
    }

    /// Appends one token.
    ///
    /// # Errors
    /// As for [`Self::prefill`].
    pub fn push(&mut self, id: u32) -> Result<()> {
        self.append(&[id], None, false)
    }

    /// Makes `ids` the context, reusing what it has in common with the present one. Locked routers decide anew.
    ///
    /// # Errors
    /// As for [`Self::prefill`]; the context may be shorter then.
    pub fn set_context(&mut self, ids: &[u32]) -> Result<()> {
        self.replace(ids, true)
    }

    /// As [`Self::set_context`], but locked depths stay.
    pub(crate) fn slide_to(&mut self, ids: &[u32]) -> Result<()> {
        self.replace(ids, false)
    }

    fn replace(&mut self, ids: &[u32], decide: bool) -> Result<()> {
        let reusable = self.history.reusable(ids, decide, Earlier::CatchUp);
        self.truncate(reusable);
        self.append(&ids[reusable..], None, decide)
    }

    /// Logits after the token at `position`, `[vocab_size]`, as a pass over the whole context gives them.
    /// Costs one output head.
    ///
    /// # Errors
    /// [`EngineError::Option`] when there is no such position or `out` has another length.
    pub fn logits_at(&mut self, position: usize, out: &mut [f32]) -> Result<()> {
        self.history.check_position(position)?;
        if out.len() != self.model.config.vocab_size {
            return Err(EngineError::Option {
                option: "length",
                value: out.len().to_string(),
                allowed: "the vocabulary's size",
            });
        }
        self.whole_or_empty(|decoder| {
            let last = decoder.history.len() - 1;
            decoder.compute_logits(position);
            out.copy_from_slice(decoder.logits());
            if position != last {
                decoder.compute_logits(last);
            }
        });
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.history.truncate(len);
        if len == 0 {
            self.logits.fill(0.0);
        }
    }

    /// `decide` makes locked routers decide anew, as they also do on the first tokens of all.
    fn append(&mut self, ids: &[u32], visible: Option<&[bool]>, decide: bool) -> Result<()> {
        let start = self.history.check(ids, visible)?;
        let decide = self.history.extend(ids, visible, decide);
        let seen = &self.history.visible()[start..];
        for ((&id, &seen), position) in ids.iter().zip(seen).zip(start..) {
            self.mask[position] = if seen { 0.0 } else { HIDDEN };
            let row = &mut self.hidden[position * self.width..][..self.width];
            self.model.embed(id, position, row);
        }
        self.whole_or_empty(|decoder| {
            decoder.run(start, decide);
            decoder.compute_logits(decoder.history.len() - 1);
        });
        Ok(())
    }

    /// Does `work`. If it panics (one of the pool's threads may be at fault) states and caches are of different lengths, and
    /// the context is made empty, before whoever catches the panic can take them for whole.
    fn whole_or_empty(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            self.reset();
            resume_unwind(panic);
        }
    }

    /// Takes the positions from `start` on through all layers, and earlier ones through those whose input
    /// they change.
    fn run(&mut self, mut start: usize, decide: bool) {
        let len = self.history.len();
        let config = &self.model.config;
        let pooling = config.routing.pooling;
        let mut forward = Forward {
            model: &self.model,
            pool: &mut self.pool,
            buffers: &mut self.buffers,
            router: &mut self.router,
            shape: self.shape,
            pooled: Pooled {
                pooling,
                mask: &self.mask,
            },
            positions: &self.positions,
            width: self.width,
            len,
            decide,
            computed: &mut self.computed,
            even: config.routes_by_position() && len - start > 1,
        };
        for (group, state) in self.groups.iter().zip(&mut self.layers) {
            let layers = &self.model.layers[group.clone()];
            start = state.run(layers, &mut forward, &mut self.hidden, start);
        }
        self.history.settle(decide);
        let recursive = self.layers.iter().filter(|layer| layer.recurs());
        for (steps, state) in self.steps.iter_mut().zip(recursive) {
            *steps = state.steps_at(len - 1);
        }
    }

    fn compute_logits(&mut self, position: usize) {
        let model = &*self.model;
        let dim = model.config.hidden_size;
        let row = &mut self.last;
        row.copy_from_slice(&self.hidden[position * self.width..][..dim]);
        let eps = model.config.layer_norm_eps;
        model.kernels.norm_row(row, &model.final_norm, eps);
        let logits = &mut self.logits;
        model
            .kernels
            .vector_on(&mut self.pool, &model.head, row, logits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_panic_the_context_is_empty_and_not_half_of_one() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
        let model = Arc::new(Model::load(&folder).expect("the shipped model"));
        let options = DecodeOptions {
            threads: 2,
            ..DecodeOptions::default()
        };
        let mut decoder = Decoder::new(model, options).expect("a decoder");
        let ids = [2, 40, 41, 42];
        decoder.set_context(&ids).expect("fits");
        let expected = decoder.logits().to_vec();
        decoder.set_context(&ids[..3]).expect("fits");

        // Where a position is missing, a layer panics after others have run.
        let positions = std::mem::take(&mut decoder.positions);
        let pushed = catch_unwind(AssertUnwindSafe(|| decoder.push(ids[3])));
        assert!(pushed.is_err());
        decoder.positions = positions;

        assert!(decoder.ids().is_empty());
        assert!(decoder.logits().iter().all(|logit| *logit == 0.0));
        decoder.set_context(&ids).expect("fits");
        assert_eq!(decoder.logits(), expected);
    }
}
