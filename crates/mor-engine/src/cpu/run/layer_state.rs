//! What a decoder keeps of each layer.

use mor_config::{ModelConfig, Pooling};

use super::cache::{CacheShape, StepCache};
use super::forward::{Forward, blocks};
use super::prefix::PrefixRouting;
use super::sequence::SequenceRouting;
use crate::Result;
use crate::cpu::weights::Layer;
use crate::model::most_steps;

/// Caches of a layer's steps, and what follows from how its depth is decided.
pub(super) struct LayerState {
    /// One a step.
    caches: Vec<StepCache>,
    depth: LayerDepth,
}

enum LayerDepth {
    /// The same for every position and known beforehand.
    Fixed(u8),
    /// One for all positions, which later tokens can change.
    Sequence(SequenceRouting),
    /// One for each position.
    Prefix(PrefixRouting),
}

impl LayerState {
    /// `fixed` is the number of steps of recursive layers where routers do not decide.
    pub(super) fn new(
        config: &ModelConfig,
        layer: &Layer,
        shape: CacheShape,
        fixed: Option<usize>,
    ) -> Result<Self> {
        let context = config.max_position_embeddings;
        let steps = most_steps(config, layer.recurs, fixed);
        let depth = match (layer.recurs && fixed.is_none(), config.routing.pooling) {
            (false, _) => LayerDepth::Fixed(steps as u8),
            (true, Pooling::Prefix) => LayerDepth::Prefix(PrefixRouting::new(config, steps)?),
            (true, _) => LayerDepth::Sequence(SequenceRouting::new(config, steps)?),
        };
        let caches: Result<_> = (0..steps).map(|_| shape.allocate(context)).collect();
        Ok(Self {
            caches: caches?,
            depth,
        })
    }

    /// Takes the positions from `start` on through the layer, `hidden` being its input and becoming its output.
    /// Returns the first position whose output changed.
    pub(super) fn run(
        &mut self,
        layer: &Layer,
        forward: &mut Forward<'_>,
        hidden: &mut [f32],
        start: usize,
    ) -> usize {
        match &mut self.depth {
            LayerDepth::Sequence(routing) => {
                routing.run(layer, &mut self.caches, forward, hidden, start)
            }
            LayerDepth::Prefix(routing) => {
                routing.run(layer, &mut self.caches, forward, hidden, start);
                start
            }
            LayerDepth::Fixed(_) => {
                let (mask, positions) = (forward.pooled.mask, forward.positions);
                for block in blocks(start..forward.len) {
                    let rows = &mut hidden[block.start * forward.width..];
                    let positions = &positions[block];
                    for (step, cache) in self.caches.iter_mut().enumerate() {
                        forward.step((layer, step), cache, mask, positions, rows);
                    }
                }
                start
            }
        }
    }

    /// Steps that a position took.
    pub(super) fn steps_at(&self, position: usize) -> u8 {
        match &self.depth {
            LayerDepth::Fixed(steps) => *steps,
            LayerDepth::Sequence(routing) => routing.steps(),
            LayerDepth::Prefix(routing) => routing.steps_at(position),
        }
    }

    /// What the router last said; empty where there is none.
    pub(super) fn probabilities(&self) -> &[f32] {
        match &self.depth {
            LayerDepth::Fixed(_) => &[],
            LayerDepth::Sequence(routing) => routing.probabilities(),
            LayerDepth::Prefix(routing) => routing.probabilities(),
        }
    }
}
