//! One depth for all positions, decided from a mean over all of them.
//!
//! A new token can change that depth for every earlier position. The state of each position after each step
//! is kept, with one cache of keys and values a step: neither depends on how many steps follow, so none goes
//! stale. When the router asks for more steps, the earlier positions catch up on those they have not taken
//! yet; when it asks for fewer, their states are there already.

use mor_config::ModelConfig;

use super::cache::{StepCache, zeroed};
use super::forward::{Forward, blocks};
use super::routing::PooledMean;
use crate::Result;
use crate::cpu::kernels::matrix::padded;
use crate::cpu::weights::Layer;

pub(super) struct SequenceRouting {
    /// The layer's input, then the state after each step, `[position][width]`.
    states: Vec<Vec<f32>>,
    /// For each step, how many positions have taken it.
    done: Vec<usize>,
    mean: PooledMean,
    steps: u8,
    probabilities: Vec<f32>,
}

impl SequenceRouting {
    pub(super) fn new(config: &ModelConfig, steps: usize) -> Result<Self> {
        let context = config.max_position_embeddings;
        let len = padded(config.hidden_size).checked_mul(context);
        let states: Result<_> = (0..=steps).map(|_| zeroed(len, context)).collect();
        Ok(Self {
            states: states?,
            done: vec![0; steps],
            mean: PooledMean::new(config.hidden_size),
            steps: 0,
            probabilities: vec![0.0; config.routing.steps_of_classes().len()],
        })
    }

    /// See [`super::layer_state::LayerState::run`].
    pub(super) fn run(
        &mut self,
        layer: &Layer,
        caches: &mut [StepCache],
        forward: &mut Forward<'_>,
        hidden: &mut [f32],
        start: usize,
    ) -> usize {
        let (width, len) = (forward.width, forward.len);
        let new = start * width..len * width;
        self.states[0][new.clone()].copy_from_slice(&hidden[new]);
        for done in &mut self.done {
            *done = start.min(*done);
        }
        let before = self.steps;
        self.route(layer, forward, start);
        let (mask, positions) = (forward.pooled.mask, forward.positions);
        for step in 0..usize::from(self.steps) {
            let (inputs, outputs) = self.states.split_at_mut(step + 1);
            let (input, output) = (&inputs[step], &mut outputs[0]);
            for block in blocks(self.done[step]..len) {
                let rows = block.start * width..block.end * width;
                output[rows.clone()].copy_from_slice(&input[rows.clone()]);
                let rows = &mut output[rows];
                forward.step(
                    (layer, step),
                    &mut caches[step],
                    mask,
                    &positions[block],
                    rows,
                );
            }
            self.done[step] = len;
        }
        let first = if self.steps == before { start } else { 0 };
        let changed = first * width..len * width;
        hidden[changed.clone()].copy_from_slice(&self.states[usize::from(self.steps)][changed]);
        first
    }

    /// Decides the depth; inputs from `start` on are new.
    fn route(&mut self, layer: &Layer, forward: &mut Forward<'_>, start: usize) {
        let (width, pooled) = (forward.width, forward.pooled);
        self.mean.rewind(start, &self.states[0], width, pooled);
        let inputs = self.states[0].chunks_exact(width).enumerate();
        for (position, row) in inputs.take(forward.len).skip(start) {
            self.mean.add(row, pooled.counts(position));
        }
        let Some(router) = layer.router.as_ref().filter(|_| forward.decide) else {
            return;
        };
        let model = forward.model;
        self.mean.write(&mut forward.router.pooled);
        forward.router.classify(model, forward.pool, router, 1);
        self.steps = forward.router.steps(0, &model.class_steps);
        forward.router.probabilities(0, &mut self.probabilities);
    }

    pub(super) fn steps(&self) -> u8 {
        self.steps
    }

    pub(super) fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }
}
