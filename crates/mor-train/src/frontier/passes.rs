//! Text in batches, passes over it at given depths, and what is known of each position from passes at fixed ones.

use burn::tensor::{Tensor, activation};
use mor_config::ModelConfig;
use mor_math::SplitMix64;
use mor_model::{ForwardOptions, Gate, Model};

use crate::Result;
use crate::data::{Batch, Dataset, IGNORE, Row, Targets, sampled_batches};
use crate::evaluate::{device_of, matrix};

/// Positions of a batch: as many rows of the vocabulary are in memory for each depth.
const BATCH_TOKENS: usize = 1024;

/// Batches to fit simple rules on, about a third, and the others.
pub(super) fn split(data: &Dataset, tokens: usize) -> (Vec<Vec<Row>>, Vec<Vec<Row>>) {
    let (mut fitted, mut measured) = (Vec::new(), Vec::new());
    let batches = sampled_batches(data, tokens + tokens / 2, 2, BATCH_TOKENS);
    for (at, batch) in batches.into_iter().enumerate() {
        let part = if at % 3 == 0 {
            &mut fitted
        } else {
            &mut measured
        };
        part.push(batch);
    }
    (fitted, measured)
}

/// Text in batches. Positions are those of all batches, one after the other, pads included.
pub(super) struct Text {
    batches: Vec<Batch>,
    /// Where each sequence's positions begin, and how many have a successor.
    rows: Vec<(usize, usize)>,
    /// Of each sequence.
    pub(super) bytes: Vec<f64>,
    pub(super) sequences: usize,
    /// Positions with a successor.
    pub(super) tokens: usize,
}

impl Text {
    pub(super) fn new(data: &Dataset, batches: &[Vec<Row>], config: &ModelConfig) -> Self {
        let mut text = Self {
            batches: Vec::new(),
            rows: Vec::new(),
            bytes: Vec::new(),
            sequences: 0,
            tokens: 0,
        };
        let mut first = 0;
        for rows in batches {
            let batch = Batch::new(data, rows, config.pad_token_id, Targets::ALL);
            for row in rows {
                text.rows.push((first, row.inputs()));
                text.bytes.push(data.bytes(*row) as f64);
                text.tokens += row.inputs();
                first += batch.width;
            }
            text.batches.push(batch);
        }
        data.release();
        text.sequences = text.rows.len();
        text
    }

    pub(super) fn positions(&self) -> usize {
        self.batches.iter().map(|batch| batch.targets.len()).sum()
    }

    /// Positions with a successor.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let rows = self.rows.iter();
        rows.flat_map(|(first, inputs)| *first..first + inputs)
    }

    /// The place of each position with a successor in its sequence, and its id.
    pub(super) fn ids(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        let all: Vec<i64> = self
            .batches
            .iter()
            .flat_map(|batch| batch.inputs.clone())
            .collect();
        let rows = self.rows.iter();
        rows.flat_map(|(first, inputs)| (0..*inputs).map(move |at| (at, first + at)))
            .map(move |(at, position)| (at, all[position]))
    }

    /// Of numbers by position, those of positions with a successor.
    pub(super) fn counted<'a>(&'a self, all: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        self.places().map(|at| all[at])
    }

    pub(super) fn mean(&self, depths: &[usize]) -> f64 {
        self.counted(depths).sum::<usize>() as f64 / self.tokens.max(1) as f64
    }

    /// The same depths at other positions.
    pub(super) fn shuffle(&self, depths: &[usize]) -> Vec<usize> {
        let places: Vec<usize> = self.places().collect();
        let mut mixed: Vec<usize> = self.counted(depths).collect();
        let mut draw = SplitMix64::new(3);
        for at in (1..mixed.len()).rev() {
            mixed.swap(at, draw.below(at + 1));
        }
        let mut all = depths.to_vec();
        places
            .iter()
            .zip(mixed)
            .for_each(|(at, depth)| all[*at] = depth);
        all
    }

    /// Operations of all sequences at these depths.
    pub(super) fn flops(&self, config: &ModelConfig, depths: &[usize], gated: bool) -> f64 {
        let rows = self.rows.iter();
        rows.map(|(first, inputs)| {
            let depths = &depths[*first..first + inputs];
            config.forward_flops(*inputs, std::iter::once(depths), gated)
        })
        .sum()
    }

    /// Runs all batches; returns each sequence's nats, and the depths of all positions.
    pub(super) fn run(
        &self,
        model: &Model,
        mut options: impl FnMut(usize) -> ForwardOptions,
    ) -> Result<(Vec<f64>, Vec<usize>)> {
        let device = device_of(model);
        let (mut losses, mut depths) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            let [ids, targets] =
                [&batch.inputs, &batch.targets].map(|values| matrix(values, batch, &device));
            let output = model.forward(ids, &options(depths.len()))?;
            losses.extend(model.losses(output.hidden, targets, IGNORE)?);
            depths.extend(output.steps.into_iter().flatten());
        }
        Ok((self.nats(&losses), depths))
    }

    /// As [`Self::run`], at depths by position.
    pub(super) fn run_at(&self, model: &Model, depths: &[usize]) -> Result<(Vec<f64>, Vec<usize>)> {
        let sizes: Vec<usize> = self
            .batches
            .iter()
            .map(|batch| batch.targets.len())
            .collect();
        let mut sizes = sizes.into_iter();
        self.run(model, |first| {
            let size = sizes.next().unwrap_or(0);
            ForwardOptions {
                steps: Some(vec![depths[first..first + size].to_vec()]),
                ..ForwardOptions::default()
            }
        })
    }

    /// Sums over sequences of losses by position.
    fn nats(&self, losses: &[f32]) -> Vec<f64> {
        let rows = self.rows.iter();
        let sum = |losses: &[f32]| losses.iter().map(|loss| f64::from(*loss)).sum();
        rows.map(|(first, inputs)| sum(&losses[*first..first + inputs]))
            .collect()
    }
}

/// What passes at each fixed depth tell of positions; of those with a successor where nothing else is said.
pub(super) struct Known {
    /// By depth, from 1 on, of all positions.
    losses: Vec<Vec<f32>>,
    /// By loop but the last: entropy of the prediction, in nats.
    pub(super) entropy: Vec<Vec<f64>>,
    /// How far the loop moved the state, as gates see it.
    pub(super) moved: Vec<Vec<f64>>,
    /// What gates are fitted to.
    pub(super) changes: Vec<Vec<f64>>,
}

impl Known {
    pub(super) fn new(model: &Model, text: &Text) -> Result<Self> {
        let (config, device, options) =
            (model.config(), device_of(model), ForwardOptions::default());
        let most = config.routing.max_steps;
        let mut known = Self {
            losses: vec![Vec::new(); most],
            entropy: vec![Vec::new(); most - 1],
            moved: vec![Vec::new(); most - 1],
            changes: vec![Vec::new(); most - 1],
        };
        for batch in &text.batches {
            let [ids, targets] =
                [&batch.inputs, &batch.targets].map(|values| matrix(values, batch, &device));
            let Some(states) = model.loop_states(ids.clone(), &options)? else {
                break;
            };
            let mut predictions: Vec<Tensor<3>> = Vec::new();
            for (depth, state) in states.iter().skip(1).enumerate() {
                let hidden = model.after_loops(state.clone(), &ids, &options)?;
                known.losses[depth].extend(model.losses(
                    hidden.clone(),
                    targets.clone(),
                    IGNORE,
                )?);
                predictions.push(activation::log_softmax(model.logits(hidden), 2));
            }
            let Some(deepest) = predictions.last().cloned() else {
                break;
            };
            let likely = deepest.clone().exp();
            let places: Vec<usize> = (0..batch.targets.len())
                .filter(|at| batch.targets[*at] != IGNORE)
                .collect();
            let kept = |x: Tensor<3>| -> Vec<f64> {
                let data = x.into_data().convert::<f32>();
                let all = data.as_slice::<f32>().unwrap_or_default();
                places.iter().map(|at| f64::from(all[*at])).collect()
            };
            for step in 0..most - 1 {
                let prediction = predictions[step].clone();
                let entropy = (prediction.clone().exp() * prediction.clone())
                    .sum_dim(2)
                    .neg();
                known.entropy[step].extend(kept(entropy));
                let divergence = (likely.clone() * (deepest.clone() - prediction)).sum_dim(2);
                let changes = kept(divergence).into_iter().map(|kl| kl.max(0.0).sqrt());
                known.changes[step].extend(changes);
                let (before, after) = (states[step].clone(), states[step + 1].clone());
                let seen = Gate::features(after, before, config.layer_norm_eps);
                known.moved[step].extend(kept(seen.narrow(2, config.hidden_size, 1)));
            }
        }
        Ok(known)
    }

    /// Each sequence's nats had position `at` the depth that `depth` says, and all others the same.
    pub(super) fn nats_at(&self, text: &Text, depth: impl Fn(usize) -> usize) -> Vec<f64> {
        let losses: Vec<f32> = (0..text.positions())
            .map(|at| self.losses[depth(at).clamp(1, self.losses.len()) - 1][at])
            .collect();
        text.nats(&losses)
    }

    /// The depths of this mean with the least loss, each position's being known at every depth.
    pub(super) fn oracle(&self, text: &Text, mean: f64) -> Vec<usize> {
        let at_price = |price: f64| -> Vec<usize> {
            let cost = |at: usize, depth: usize| {
                f64::from(self.losses[depth - 1][at]) + price * depth as f64
            };
            let depth =
                |at| (1..=self.losses.len()).min_by(|a, b| cost(at, *a).total_cmp(&cost(at, *b)));
            (0..text.positions())
                .map(|at| depth(at).unwrap_or(1))
                .collect()
        };
        // A higher price of loops never means more of them. Some pay for themselves even at a negative one.
        let (mut low, mut high) = (-20.0, 20.0);
        for _ in 0..50 {
            let price = 0.5 * (low + high);
            match text.mean(&at_price(price)) > mean {
                true => low = price,
                false => high = price,
            }
        }
        at_price(high)
    }
}
