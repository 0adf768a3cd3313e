//! A depth for each position of a recursive model, decided loop by loop from its own state.
//!
//! Nothing later changes it, so nothing is ever computed again. What has halted stays as it is; later loops of others see
//! the keys and values of its last one, or nothing of it.

use mor_config::{LoopKeys, ModelConfig};

use super::cache::{StepCache, zeroed};
use super::forward::{BLOCK, Forward, blocks};
use crate::Result;
use crate::cpu::kernels::attention::HIDDEN;
use crate::cpu::kernels::matrix::padded;
use crate::cpu::weights::Layer;
use crate::model::Gate;

pub(super) struct GatedLoops {
    kv: LoopKeys,
    /// What a gate must exceed for a position to go on.
    threshold: f32,
    most: usize,
    /// Loops of each position.
    steps: Vec<u8>,
    /// Of the position that was last decided on.
    last: u8,
    /// For each loop, what is added to attention scores, by position, where halted positions are hidden.
    masks: Vec<Vec<f32>>,
    /// Positions of a block that take a loop, and their rows, now and before it.
    taking: Vec<usize>,
    rows: Vec<f32>,
    before: Vec<f32>,
}

impl GatedLoops {
    pub(super) fn new(config: &ModelConfig, threshold: f32) -> Result<Self> {
        let (context, most) = (config.max_position_embeddings, config.routing.max_steps);
        let rows = || zeroed(padded(config.hidden_size).checked_mul(BLOCK), context);
        let masks = match config.routing.kv {
            LoopKeys::Deepest => 0,
            LoopKeys::Active => most,
        };
        Ok(Self {
            kv: config.routing.kv,
            threshold,
            most,
            steps: vec![0; context],
            last: 1,
            masks: vec![vec![HIDDEN; padded(context)]; masks],
            taking: Vec::with_capacity(BLOCK),
            rows: rows()?,
            before: rows()?,
        })
    }

    /// See [`super::layer_state::LayerState::run`]; `caches` has one for each of the core's `layers`, loop by loop.
    pub(super) fn run(
        &mut self,
        layers: &[Layer],
        caches: &mut [StepCache],
        forward: &mut Forward<'_>,
        hidden: &mut [f32],
        start: usize,
    ) {
        let width = forward.width;
        for block in blocks(start..forward.len) {
            self.taking.clear();
            self.taking.extend(block.clone());
            let rows = block.start * width..block.end * width;
            self.rows[..rows.len()].copy_from_slice(&hidden[rows]);
            for step in 0..self.most {
                if let Some(mask) = self.masks.get_mut(step) {
                    mask[block.clone()].fill(HIDDEN);
                    for &position in &self.taking {
                        mask[position] = forward.pooled.mask[position];
                    }
                }
                if self.taking.is_empty() {
                    // Nobody is seen in the loops that nobody takes.
                    continue;
                }
                let used = self.taking.len() * width;
                self.before[..used].copy_from_slice(&self.rows[..used]);
                let mask = self
                    .masks
                    .get(step)
                    .map_or(forward.pooled.mask, Vec::as_slice);
                let of_step = &mut caches[step * layers.len()..][..layers.len()];
                for (layer, cache) in layers.iter().zip(of_step) {
                    forward.step((layer, 0), cache, mask, &self.taking, &mut self.rows);
                }
                self.part(step, (layers.len(), caches), forward, hidden);
            }
        }
        if let Some(last) = forward.len.checked_sub(1) {
            self.last = self.steps[last];
        }
    }

    /// Lets positions go after loop number `step`, and keeps the others.
    fn part(
        &mut self,
        step: usize,
        (layers, caches): (usize, &mut [StepCache]),
        forward: &Forward<'_>,
        hidden: &mut [f32],
    ) {
        let width = forward.width;
        let mut kept = 0;
        for row in 0..self.taking.len() {
            let position = self.taking[row];
            let state = row * width..(row + 1) * width;
            if self.goes_on(step, state.clone(), forward) {
                self.taking[kept] = position;
                self.rows.copy_within(state, kept * width);
                kept += 1;
                continue;
            }
            self.steps[position] = (step + 1) as u8;
            hidden[position * width..][..width].copy_from_slice(&self.rows[state]);
            if self.kv == LoopKeys::Deepest {
                let (taken, deeper) = caches.split_at_mut((step + 1) * layers);
                let last = &taken[step * layers..];
                for of_step in deeper.chunks_exact_mut(layers) {
                    for (from, to) in last.iter().zip(of_step) {
                        to.copy_position(from, forward.shape, position);
                    }
                }
            }
        }
        self.taking.truncate(kept);
    }

    /// Whether the position whose state is in `rows` takes another loop after number `step`.
    fn goes_on(&self, step: usize, row: std::ops::Range<usize>, forward: &Forward<'_>) -> bool {
        if step + 1 >= self.most {
            return false;
        }
        if !forward.decide {
            return step + 1 < usize::from(self.last);
        }
        let Some(gate) = forward.model.gates.get(step) else {
            return false;
        };
        let (state, before) = (&self.rows[row.clone()], &self.before[row]);
        let eps = forward.model.config.layer_norm_eps;
        gate.goes_on(state, before, eps) > self.threshold
    }

    pub(super) fn steps_at(&self, position: usize) -> u8 {
        self.steps.get(position).copied().unwrap_or(0)
    }
}

impl Gate {
    /// The probability of another loop, of a state and what it was before the last one; padding is left out.
    fn goes_on(&self, state: &[f32], before: &[f32], eps: f32) -> f32 {
        let dim = self.weight.len();
        let (state, before) = (&state[..dim], &before[..dim]);
        let count = dim as f32;
        let mean = state.iter().sum::<f32>() / count;
        let (mut variance, mut size, mut moved, mut score) = (0.0, 0.0, 0.0, 0.0);
        for ((x, before), weight) in state.iter().zip(before).zip(&self.weight) {
            variance += (x - mean) * (x - mean);
            size += x * x;
            moved += (x - before) * (x - before);
            score += (x - mean) * weight;
        }
        let moved = moved.sqrt() / (size.sqrt() + eps);
        let score = score / (variance / count + eps).sqrt() + moved * self.moved + self.bias;
        1.0 / (1.0 + (-score).exp())
    }
}
