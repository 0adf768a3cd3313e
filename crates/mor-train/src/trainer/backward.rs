//! Forward and backward over a step's batches.

use burn::tensor::Tensor;
use mor_config::{Architecture, Depth, RouterKind};
use mor_model::{ForwardOptions, Losses, Output};
use mor_report::metrics::RouterMetrics;

use super::Trainer;
use crate::Result;
use crate::data::{Batch, IGNORE, Row, Targets};
use crate::depth::BatchDepth;
use crate::evaluate::{depths, device_of, matrix};
use crate::optimizer::Gradients;
use crate::recipe::Matmul;
use mor_math::SplitMix64;

/// The stream of random numbers that noise is seeded from.
const NOISE_STREAM: u64 = 0x6472_6F70;

/// What the backward passes of a step give, over all processes.
pub(super) struct StepGradients {
    /// Mean loss over the targets.
    pub(super) loss: f64,
    pub(super) counted: usize,
    pub(super) bytes: f64,
    /// How often each depth was taken.
    pub(super) depths: Vec<u64>,
    pub(super) router: Option<RouterMetrics>,
    /// Of the mean loss over all targets, times the loss scale.
    pub(super) gradients: Gradients,
    /// Of the gradients, so times the loss scale too.
    pub(super) norm: f64,
}

/// Sums over the batches of a step.
struct Sums {
    /// Loss of each batch with its share of all targets. On a GPU they stay there until the last batch is under way.
    losses: Vec<(f64, Tensor<1>)>,
    bytes: f64,
    depths: Vec<f64>,
    /// Router losses, as the losses; median perplexities, weighted like them; then rows by class and by pseudo-class.
    router_losses: Vec<(f64, Tensor<1>)>,
    perplexity: f64,
    routed: f64,
    classes: Vec<f64>,
    targets: Vec<f64>,
}

impl Trainer {
    /// Forward and backward. The gradients are those of the mean loss over all targets, times `loss_scale`.
    pub(super) fn gradients(
        &self,
        rows: &[Vec<Row>],
        progress: f64,
        loss_scale: f64,
    ) -> Result<StepGradients> {
        let train = &self.recipe.train;
        let device = device_of(&self.model);
        let targets = Targets {
            learn: train.learn,
            pad: train.pad_target,
            weights: true,
        };
        let pad = self.recipe.model.pad_token_id;
        let mine = rows.iter().enumerate();
        let mine = mine.filter(|(at, _)| at % self.ranks.size() == self.ranks.rank());
        let batches: Vec<(usize, Batch)> = mine
            .map(|(at, rows)| (at, Batch::new(&self.train, rows, pad, targets)))
            .collect();
        self.train.release();
        let counted: usize = batches.iter().map(|(_, batch)| batch.counted).sum();
        let mut total = [counted as f64];
        self.ranks.sum_f64(&mut total)?;
        let total = total[0];

        let routing = &self.recipe.model.routing;
        let classes = routing.steps_of_classes().len();
        let mut sums = Sums {
            losses: Vec::new(),
            bytes: 0.0,
            depths: vec![0.0; routing.max_steps + 1],
            router_losses: Vec::new(),
            perplexity: 0.0,
            routed: 0.0,
            classes: vec![0.0; classes],
            targets: vec![0.0; classes],
        };
        let on_device = self.optimizer.is_on_device();
        let mut gradients: Option<Gradients> = None;
        for (at, batch) in &batches {
            let share = batch.counted as f64 / total.max(1.0);
            self.seed_noise(*at, rows.len());
            let ids = matrix(&batch.inputs, batch, &device);
            let output = self
                .model
                .forward(ids, &self.options(progress, *at, batch))?;
            let loss = train.router_loss();
            let losses = self
                .model
                .objective(&output, &batch.targets, IGNORE, &loss)?;
            let factor = (share * loss_scale) as f32;
            let loss = match factor == 1.0 {
                true => losses.total.clone(),
                false => losses.total.clone() * factor,
            };
            sums.add(&output, losses, batch, share, &routing.steps_of_classes());
            let taken = Gradients::take(&self.model, &mut loss.backward(), on_device);
            match &mut gradients {
                Some(sum) => sum.add(taken),
                None => gradients = Some(taken),
            }
        }
        let mut gradients = gradients.unwrap_or(Gradients::Host(Vec::new()));
        self.sum_gradients(&mut gradients)?;
        sums.finish(self, total as usize, gradients)
    }

    fn options(&self, progress: f64, at: usize, batch: &Batch) -> ForwardOptions {
        let train = &self.recipe.train;
        let positions = batch.rows * batch.width;
        let step = self.state.step;
        let drawn = self
            .depths
            .sample_batch(train.seed, step, at as u64, progress, positions);
        let (depth, steps) = match drawn {
            BatchDepth::One(depth) => (depth, None),
            BatchDepth::Each(depths) => (Depth::Configured, Some(vec![depths])),
        };
        ForwardOptions {
            depth,
            steps,
            training: true,
            straight_through: train.router.straight_through
                && self.recipe.model.architecture == Architecture::Technical,
            half: self.on_gpu && train.matmul == Matmul::F16,
            matmul: self.matmul(),
            ..ForwardOptions::default()
        }
    }

    /// Each batch seeds its own noise, dropout and drawn depths, so that a resumed run repeats it, on any number of
    /// processes. The generator is the whole process's, so it is left alone where there is no noise.
    fn seed_noise(&self, batch: usize, batches: usize) {
        let model = &self.recipe.model;
        if model.dropout == 0.0 && model.routing.kind == RouterKind::Fixed {
            return;
        }
        let stream = self.state.step * batches as u64 + batch as u64;
        let seed = SplitMix64::of_stream(self.recipe.train.seed ^ NOISE_STREAM, stream).next_u64();
        device_of(&self.model).seed(seed);
    }

    /// Adds up the gradients of all processes. Each must take part for every parameter that any has a gradient of.
    fn sum_gradients(&self, gradients: &mut Gradients) -> Result<()> {
        // A GPU's stay there only where there is one process.
        let Gradients::Host(gradients) = gradients else {
            return Ok(());
        };
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let specs = self.recipe.model.tensors();
        gradients.resize(specs.len(), None);
        let mut takes_part: Vec<f32> = gradients
            .iter()
            .map(|gradient| f32::from(u8::from(gradient.is_some())))
            .collect();
        self.ranks.sum(&mut takes_part)?;
        for ((gradient, spec), count) in gradients.iter_mut().zip(specs).zip(takes_part) {
            if count > 0.0 {
                let len = spec.shape.iter().product();
                self.ranks
                    .sum(gradient.get_or_insert_with(|| vec![0.0; len]))?;
            }
        }
        Ok(())
    }
}

impl Sums {
    fn add(
        &mut self,
        output: &Output,
        losses: Losses,
        batch: &Batch,
        share: f64,
        class_steps: &[usize],
    ) {
        self.losses
            .push((share, losses.language.without_autodiff()));
        self.bytes += batch.bytes as f64;
        for depth in depths(&output.steps, batch) {
            if let Some(count) = self.depths.get_mut(depth) {
                *count += 1.0;
            }
        }
        let Some(router) = losses.router else {
            return;
        };
        self.routed += share;
        self.router_losses.push((share, router.without_autodiff()));
        self.perplexity += share * f64::from(median(&losses.row_perplexity));
        for depth in depths(&output.steps, batch) {
            if let Some(class) = class_steps.iter().position(|steps| *steps == depth) {
                self.classes[class] += 1.0;
            }
        }
        for class in losses.pseudo_classes {
            if let Some(count) = self.targets.get_mut(class) {
                *count += 1.0;
            }
        }
    }

    /// The figures of all processes together.
    fn finish(
        self,
        trainer: &Trainer,
        counted: usize,
        gradients: Gradients,
    ) -> Result<StepGradients> {
        let (depths, classes) = (self.depths.len(), self.classes.len());
        let batches = self.losses.len();
        let losses = self.losses.into_iter().chain(self.router_losses);
        let (shares, losses): (Vec<f64>, Vec<Tensor<1>>) = losses.unzip();
        let (norm, losses) = gradients.norm_and(losses);
        let losses = shares.iter().zip(losses);
        let losses: Vec<f64> = losses
            .map(|(share, loss)| share * f64::from(loss))
            .collect();
        let (losses, router_losses) = losses.split_at(batches.min(losses.len()));
        let mut all = vec![losses.iter().sum(), self.bytes, self.routed];
        all.extend([router_losses.iter().sum(), self.perplexity]);
        all.extend(self.depths);
        all.extend(self.classes);
        all.extend(self.targets);
        trainer.ranks.sum_f64(&mut all)?;
        let counts = |values: &[f64]| -> Vec<u64> { values.iter().map(|c| *c as u64).collect() };
        let (figures, all) = all.split_at(5);
        let (taken, all) = all.split_at(depths);
        let (chosen, targets) = all.split_at(classes);
        let routed = figures[2];
        Ok(StepGradients {
            loss: figures[0],
            counted,
            bytes: figures[1],
            depths: counts(taken),
            router: (routed > 0.0).then(|| RouterMetrics {
                loss: figures[3] / routed,
                perplexity: figures[4] / routed,
                classes: counts(chosen),
                targets: counts(targets),
            }),
            gradients,
            norm,
        })
    }
}

/// The middle value; of an even number, the upper one.
fn median(values: &[f32]) -> f32 {
    let mut values = values.to_vec();
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
