//! One optimizer step.

use std::time::Instant;

use mor_model::{ForwardOptions, RouterLoss};

use super::{Clock, Trainer};
use crate::Result;
use crate::data::{Batch, IGNORE};
use crate::evaluate::{depths, device_of, tensors};
use crate::metrics::StepMetrics;
use crate::optimizer::{Gradients, accumulate, clip_scale, global_norm};
use crate::rng::Rng;

/// The stream of random numbers that dropout is seeded from.
const DROPOUT_STREAM: u64 = 0x6472_6F70;

/// What the backward passes of a step give.
struct Pass {
    loss: f64,
    depth: f64,
    counted: usize,
    bytes: usize,
    gradients: Gradients,
}

impl Trainer {
    /// Takes one step. `progress` is the finished share of the budget, `resolution` about the
    /// share of one step.
    pub(super) fn step(
        mut self,
        progress: f64,
        resolution: f64,
        clock: &Clock,
    ) -> Result<(Self, StepMetrics)> {
        let started = Instant::now();
        let learning_rate = self
            .recipe
            .train
            .schedule()
            .learning_rate(progress, resolution);
        let rows = self.next_batches();
        let pass = self.pass(&rows, progress)?;
        let norm = global_norm(&pass.gradients);
        let skipped = !(pass.loss.is_finite() && norm.is_finite());
        if skipped {
            self.state.skipped += 1;
        } else {
            let scale = clip_scale(norm, self.recipe.train.clip_norm);
            self.model = self
                .optimizer
                .step(self.model, pass.gradients, learning_rate, scale);
            self = self.update_average();
            self.state.tokens += pass.counted as u64;
        }
        self.state.step += 1;
        self.state.seconds = clock.seconds();
        let bits = pass.loss * pass.counted as f64 / std::f64::consts::LN_2;
        let metrics = StepMetrics {
            step: self.state.step,
            tokens: self.state.tokens,
            seconds: self.state.seconds,
            progress,
            loss: pass.loss,
            bits_per_byte: bits / pass.bytes.max(1) as f64,
            learning_rate,
            gradient_norm: norm,
            tokens_per_second: pass.counted as f64 / started.elapsed().as_secs_f64().max(1e-9),
            depth: pass.depth,
            skipped,
        };
        Ok((self, metrics))
    }

    /// Forward and backward over the step's batches; the gradients are those of the mean loss
    /// over all their targets.
    fn pass(&self, rows: &[Vec<usize>], progress: f64) -> Result<Pass> {
        let (step, seed) = (self.state.step, self.recipe.train.seed);
        let device = device_of(&self.model);
        let dropout = self.recipe.model.dropout > 0.0;
        if dropout {
            // Each step seeds its own noise, so that a resumed run repeats it.
            device.seed(Rng::new(seed ^ DROPOUT_STREAM, step).next_u64());
        }
        let options = ForwardOptions {
            attention_mask: None,
            depth: self.depths.sample(seed, step, progress),
            training: dropout,
        };
        let pad = self.recipe.model.pad_token_id;
        let batches: Vec<Batch> = rows
            .iter()
            .map(|rows| Batch::new(&self.train, rows, pad))
            .collect();
        let counted: usize = batches.iter().map(|batch| batch.counted).sum();
        let mut pass = Pass {
            loss: 0.0,
            depth: 0.0,
            counted,
            bytes: rows
                .iter()
                .flatten()
                .map(|&row| self.train.bytes(row))
                .sum(),
            gradients: Gradients::new(),
        };
        for batch in &batches {
            let share = batch.counted as f64 / counted.max(1) as f64;
            let (ids, targets) = tensors(batch, &device);
            let output = self.model.forward(ids, &options)?;
            let router = RouterLoss::default();
            let losses = self.model.objective(&output, targets, IGNORE, &router)?;
            pass.loss += share * f64::from(losses.language.into_scalar::<f32>());
            pass.depth += share * mean(depths(&output.steps, batch));
            let loss = if batches.len() > 1 {
                losses.total * share as f32
            } else {
                losses.total
            };
            let gradients = self.model.take_gradients(&mut loss.backward());
            if pass.gradients.is_empty() {
                pass.gradients = gradients;
            } else {
                accumulate(&mut pass.gradients, gradients);
            }
        }
        Ok(pass)
    }

    /// Lets the moving averages follow the weights.
    fn update_average(mut self) -> Self {
        let (Some(decay), Some(average)) = (self.recipe.train.ema, &mut self.average) else {
            return self;
        };
        // Early on the average would mostly remember the random start: let it follow faster.
        let steps = self.state.step as f64 + 1.0;
        let decay = decay.min(steps / (steps + 9.0)) as f32;
        self.model = self.model.update(|parameter| {
            if let Some(average) = average.get_mut(parameter.index) {
                for (a, p) in average.iter_mut().zip(parameter.values.iter()) {
                    *a += (1.0 - decay) * (p - *a);
                }
            }
        });
        self
    }
}

fn mean(depths: impl Iterator<Item = usize>) -> f64 {
    let (mut sum, mut count) = (0, 0_usize);
    for depth in depths {
        sum += depth;
        count += 1;
    }
    sum as f64 / count.max(1) as f64
}
