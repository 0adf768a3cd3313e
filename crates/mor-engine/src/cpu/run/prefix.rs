//! A depth for each position, decided from a mean over itself and the positions before it.
//!
//! Nothing later changes it, so nothing is ever computed again. At each step a position attends to those
//! that took the step, itself included; one that has halted stays as it is.

use mor_config::ModelConfig;

use super::cache::{StepCache, zeroed};
use super::forward::{BLOCK, Forward, blocks};
use super::routing::PooledMean;
use crate::Result;
use crate::cpu::kernels::attention::HIDDEN;
use crate::cpu::kernels::matrix::padded;
use crate::cpu::weights::Layer;

pub(super) struct PrefixRouting {
    /// The layer's input, `[position][width]`.
    inputs: Vec<f32>,
    mean: PooledMean,
    /// Steps of each position.
    steps: Vec<u8>,
    /// Of the position that was last routed.
    last: u8,
    probabilities: Vec<f32>,
    /// For each step, what is added to attention scores, by position.
    masks: Vec<Vec<f32>>,
    /// Positions of a block that take a step, and their rows.
    taking: Vec<usize>,
    rows: Vec<f32>,
}

impl PrefixRouting {
    pub(super) fn new(config: &ModelConfig, steps: usize) -> Result<Self> {
        let context = config.max_position_embeddings;
        let width = padded(config.hidden_size);
        Ok(Self {
            inputs: zeroed(width.checked_mul(context), context)?,
            mean: PooledMean::new(config.hidden_size),
            steps: vec![0; context],
            last: 0,
            probabilities: vec![0.0; config.routing.steps_of_classes().len()],
            masks: vec![vec![HIDDEN; padded(context)]; steps],
            taking: Vec::with_capacity(BLOCK),
            rows: zeroed(width.checked_mul(BLOCK), context)?,
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
    ) {
        let (width, pooled) = (forward.width, forward.pooled);
        let new = start * width..forward.len * width;
        self.inputs[new.clone()].copy_from_slice(&hidden[new]);
        self.mean.rewind(start, &self.inputs, width, pooled);
        for block in blocks(start..forward.len) {
            self.route(layer, forward, block.clone());
            for (step, cache) in caches.iter_mut().enumerate() {
                self.taking.clear();
                for position in block.clone() {
                    let takes = usize::from(self.steps[position]) > step;
                    self.masks[step][position] = if takes { pooled.mask[position] } else { HIDDEN };
                    if takes {
                        self.taking.push(position);
                    }
                }
                if self.taking.is_empty() {
                    continue;
                }
                let rows = || self.taking.iter().zip(0..);
                for (position, row) in rows() {
                    self.rows[row * width..][..width]
                        .copy_from_slice(&hidden[position * width..][..width]);
                }
                let (mask, taking) = (&self.masks[step], &self.taking);
                forward.step((layer, step), cache, mask, taking, &mut self.rows);
                for (position, row) in rows() {
                    hidden[position * width..][..width]
                        .copy_from_slice(&self.rows[row * width..][..width]);
                }
            }
        }
    }

    /// Decides the depths of a block's positions.
    fn route(&mut self, layer: &Layer, forward: &mut Forward<'_>, block: std::ops::Range<usize>) {
        let (width, pooled, model) = (forward.width, forward.pooled, forward.model);
        let means = forward.router.pooled.chunks_exact_mut(width);
        for (position, mean) in block.clone().zip(means) {
            let row = &self.inputs[position * width..][..width];
            self.mean.add(row, pooled.counts(position));
            self.mean.write(mean);
        }
        let Some(router) = layer.router.as_ref().filter(|_| forward.decide) else {
            return self.steps[block].fill(self.last);
        };
        let rows = forward.product_rows(block.len());
        forward.router.classify(model, forward.pool, router, rows);
        for (position, row) in block.clone().zip(0..) {
            self.steps[position] = forward.router.steps(row, &model.class_steps);
        }
        self.last = self.steps[block.end - 1];
        forward
            .router
            .probabilities(block.len() - 1, &mut self.probabilities);
    }

    pub(super) fn steps_at(&self, position: usize) -> u8 {
        self.steps.get(position).copied().unwrap_or(0)
    }

    pub(super) fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }
}
