//! What a decoder keeps of each layer.

use mor_config::{Architecture, ModelConfig, Pooling};

use super::cache::{CacheShape, StepCache};
use super::forward::{Forward, blocks};
use super::loops::GatedLoops;
use super::prefix::PrefixRouting;
use super::sequence::SequenceRouting;
use crate::Result;
use crate::cpu::weights::Layer;
use crate::model::most_steps;

/// Caches of the steps of a layer, or of layers that recur together, and what follows from how depth is decided.
pub(super) struct LayerState {
    /// One for each layer, step by step.
    caches: Vec<StepCache>,
    depth: LayerDepth,
    recurs: bool,
}

enum LayerDepth {
    /// The same for every position and known beforehand.
    Fixed(u8),
    /// One for all positions, which later tokens can change.
    Sequence(SequenceRouting),
    /// One for each position.
    Prefix(PrefixRouting),
    /// One for each position, decided loop by loop.
    Gated(GatedLoops),
}

impl LayerState {
    /// `fixed` is the number of steps of recursive layers where routers do not decide, and `threshold` what gates must exceed.
    pub(super) fn new(
        config: &ModelConfig,
        layers: &[Layer],
        shape: CacheShape,
        fixed: Option<usize>,
        threshold: f32,
    ) -> Result<Self> {
        let context = config.max_position_embeddings;
        let recurs = layers.iter().any(|layer| layer.recurs);
        let steps = most_steps(config, recurs, fixed);
        let depth = match (recurs && fixed.is_none(), config.routing.pooling) {
            (false, _) => LayerDepth::Fixed(steps as u8),
            _ if config.architecture == Architecture::Recursive => {
                LayerDepth::Gated(GatedLoops::new(config, threshold)?)
            }
            (true, Pooling::Prefix) => LayerDepth::Prefix(PrefixRouting::new(config, steps)?),
            (true, _) => LayerDepth::Sequence(SequenceRouting::new(config, steps)?),
        };
        let caches = 0..steps * layers.len();
        let caches: Result<_> = caches.map(|_| shape.allocate(context)).collect();
        Ok(Self {
            caches: caches?,
            depth,
            recurs,
        })
    }

    /// Whether it is applied a routed, configured or forced number of times.
    pub(super) fn recurs(&self) -> bool {
        self.recurs
    }

    /// Takes the positions from `start` on through the layers, `hidden` being their input and becoming their output.
    /// Returns the first position whose output changed.
    pub(super) fn run(
        &mut self,
        layers: &[Layer],
        forward: &mut Forward<'_>,
        hidden: &mut [f32],
        start: usize,
    ) -> usize {
        let [layer, ..] = layers else {
            return start;
        };
        match &mut self.depth {
            LayerDepth::Sequence(routing) => {
                routing.run(layer, &mut self.caches, forward, hidden, start)
            }
            LayerDepth::Prefix(routing) => {
                routing.run(layer, &mut self.caches, forward, hidden, start);
                start
            }
            LayerDepth::Gated(loops) => {
                loops.run(layers, &mut self.caches, forward, hidden, start);
                start
            }
            LayerDepth::Fixed(_) => {
                let (mask, positions) = (forward.pooled.mask, forward.positions);
                for block in blocks(start..forward.len) {
                    let rows = &mut hidden[block.start * forward.width..];
                    let positions = &positions[block];
                    let steps = self.caches.chunks_exact_mut(layers.len()).enumerate();
                    for (step, caches) in steps {
                        for (layer, cache) in layers.iter().zip(caches) {
                            forward.step((layer, step), cache, mask, positions, rows);
                        }
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
            LayerDepth::Gated(loops) => loops.steps_at(position),
        }
    }

    /// What the router last said; empty where there is none.
    pub(super) fn probabilities(&self) -> &[f32] {
        match &self.depth {
            LayerDepth::Fixed(_) | LayerDepth::Gated(_) => &[],
            LayerDepth::Sequence(routing) => routing.probabilities(),
            LayerDepth::Prefix(routing) => routing.probabilities(),
        }
    }
}
