//! Loss, perplexity, bits per byte and work of a model on a dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{Architecture, Budget, Depth, ModelConfig, RouterKind};
use mor_model::{ForwardOptions, Model, Output};
use mor_report::metrics::Summary;
use mor_text::Tokenizer;

use crate::data::{Batch, Dataset, IGNORE, Overlong, Reading, Targets, measured_batches};
use crate::ranks::{Alone, Ranks};
use crate::recipe::Learn;
use crate::trainer::check_tokenizer;
use crate::{Result, TrainError};
use mor_math::SplitMix64;

/// What was measured on some text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Summed negative log-likelihood of the targets, in nats.
    pub nats: f64,
    /// Targets: every token after the first.
    pub tokens: u64,
    /// UTF-8 bytes of the message contents.
    pub bytes: u64,
    /// Documents: conversations, or pieces of running text.
    pub documents: u64,
    /// How often each depth was taken, over layers and sequences, or positions where each has its own.
    pub depths: Vec<u64>,
    /// Floating-point operations of the forward passes, pads left out.
    pub flops: f64,
}

impl Measurement {
    /// Mean loss in nats per token.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }

    /// `exp(loss)`.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits per byte of message content; comparable between tokenizers.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes.max(1) as f64
    }

    /// Steps of a layer, on average.
    pub fn mean_depth(&self) -> f64 {
        let count: u64 = self.depths.iter().sum();
        let depths = self.depths.iter().enumerate();
        let steps: u64 = depths.map(|(depth, count)| depth as u64 * count).sum();
        steps as f64 / count.max(1) as f64
    }

    /// Floating-point operations per token.
    pub fn flops_per_token(&self) -> f64 {
        self.flops / self.tokens.max(1) as f64
    }

    fn add(&mut self, other: &Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.documents += other.documents;
        self.flops += other.flops;
        let longest = self.depths.len().max(other.depths.len());
        self.depths.resize(longest, 0);
        for (sum, count) in self.depths.iter_mut().zip(&other.depths) {
            *sum += count;
        }
    }

    /// The figures that reports print.
    pub fn summary(&self) -> Summary {
        Summary {
            loss: self.loss(),
            perplexity: self.perplexity(),
            bits_per_byte: self.bits_per_byte(),
            tokens: self.tokens,
            bytes: self.bytes,
            conversations: self.documents,
        }
    }
}

/// A dataset's measurement, in total and by source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Everything.
    pub total: Measurement,
    /// By the rows' `source`; empty where no row names one.
    pub sources: BTreeMap<String, Measurement>,
}

/// The depth at which a model is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvaluateDepth {
    /// What the model's configuration says.
    #[default]
    Configured,
    /// What its routers decide; an error for a model without.
    Adaptive,
    /// So many steps everywhere.
    Forced(usize),
    /// What the gates of a recursive model decide at this mean.
    Budget(Budget),
    /// For each layer and sequence one of the depths that routers choose from, each as likely: what routers must
    /// beat. Drawn from this seed.
    Random(u64),
}

/// How to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// At which depth.
    pub depth: EvaluateDepth,
    /// Positions of a batch. The default is enough to keep a few cores busy, and small enough for caches.
    pub batch_tokens: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            depth: EvaluateDepth::Configured,
            batch_tokens: 4096,
        }
    }
}

/// A model folder and a data file, read and checked against each other.
#[derive(Debug)]
pub struct Evaluator {
    folder: PathBuf,
    model: Model,
    data: Dataset,
}

impl Evaluator {
    /// Reads a model folder and a data file; `limit` stops after so many conversations.
    ///
    /// # Errors
    /// A [`TrainError`] that names the file at fault, or a tokenizer that does not fit the model.
    pub fn load(model: &Path, data: &Path, limit: Option<usize>, device: &Device) -> Result<Self> {
        let config = ModelConfig::from_dir(model)?;
        let tokenizer = Tokenizer::from_dir(model)?;
        check_tokenizer(
            &tokenizer,
            model,
            config.vocab_size,
            config.pad_token_id,
            "use the tokenizer that belongs to the model",
        )?;
        let data = Dataset::open(data, &tokenizer, None, measured(&config, limit))?;
        Ok(Self {
            folder: model.to_owned(),
            model: Model::load(model, device)?,
            data,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The data that is measured on.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Measures; see [`evaluate`].
    ///
    /// # Errors
    /// [`TrainError::Model`], such as for a depth that the model does not have; [`TrainError::NotFinite`].
    pub fn run(&self, depth: EvaluateDepth, on_batch: impl FnMut(f64)) -> Result<Report> {
        let options = EvaluateOptions {
            depth,
            ..EvaluateOptions::default()
        };
        let report = evaluate(&self.model, &self.data, &options, &Alone, on_batch)?;
        match report.total.nats.is_finite() {
            true => Ok(report),
            false => Err(TrainError::NotFinite {
                model: self.folder.clone(),
            }),
        }
    }
}

/// How data is read for measuring: every token counts.
pub(crate) fn measured(config: &ModelConfig, limit: Option<usize>) -> Reading {
    Reading {
        context: config.max_position_embeddings,
        overlong: Overlong::Split,
        learn: Learn::All,
        weights: false,
        limit,
    }
}

/// Measures `model` on every target of `data`, each of several processes a part of it. `on_batch` hears the finished
/// share after each batch.
///
/// # Errors
/// [`TrainError::Model`] when the data or the depth does not fit the model.
pub fn evaluate(
    model: &Model,
    data: &Dataset,
    options: &EvaluateOptions,
    ranks: &dyn Ranks,
    mut on_batch: impl FnMut(f64),
) -> Result<Report> {
    let model = model.valid();
    let config = model.config().clone();
    let routing = &config.routing;
    let empty = Measurement {
        depths: vec![0; routing.max_steps + 1],
        ..Measurement::default()
    };
    let mut sources = vec![empty.clone(); data.sources().len().max(1)];
    let mut done = 0;
    for (at, rows) in measured_batches(data, options.batch_tokens).enumerate() {
        done += rows.iter().filter(|row| row.is_first()).count();
        if at % ranks.size() != ranks.rank() {
            continue;
        }
        let batch = Batch::new(data, &rows, config.pad_token_id, Targets::ALL);
        // What was read stays in memory otherwise, until all of the file is.
        data.release();
        let device = device_of(&model);
        let [ids, targets] =
            [&batch.inputs, &batch.targets].map(|values| matrix(values, &batch, &device));
        let forward = forward_options(&config, options.depth, at, rows.len())?;
        let Output { hidden, steps, .. } = model.forward(ids, &forward)?;
        let losses = model.losses(hidden, targets, IGNORE)?;
        let routed = forward.steps.is_none() && config.resolve_depth(forward.depth)?.is_none();
        for (place, (&row, losses)) in rows
            .iter()
            .zip(losses.chunks_exact(batch.width))
            .enumerate()
        {
            let inputs = row.inputs();
            let mut measured = Measurement {
                nats: losses.iter().map(|&loss| f64::from(loss)).sum(),
                tokens: inputs as u64,
                bytes: data.bytes(row) as u64,
                documents: u64::from(row.is_first()),
                ..empty.clone()
            };
            let depths: Vec<&[usize]> = steps
                .iter()
                .map(|steps| depths_of_row(steps, batch.rows, place, inputs))
                .collect();
            for depth in depths.iter().flat_map(|depths| depths.iter()) {
                if let Some(count) = measured.depths.get_mut(*depth) {
                    *count += 1;
                }
            }
            measured.flops = config.forward_flops(inputs, depths.into_iter(), routed);
            let last = sources.len() - 1;
            sources[data.source_of(row).min(last)].add(&measured);
        }
        on_batch(done as f64 / data.documents().max(1) as f64);
    }
    for source in &mut sources {
        let mut all = vec![
            source.nats,
            source.tokens as f64,
            source.bytes as f64,
            source.documents as f64,
            source.flops,
        ];
        all.extend(source.depths.iter().map(|count| *count as f64));
        ranks.sum_f64(&mut all)?;
        *source = Measurement {
            nats: all[0],
            tokens: all[1] as u64,
            bytes: all[2] as u64,
            documents: all[3] as u64,
            flops: all[4],
            depths: all[5..].iter().map(|count| *count as u64).collect(),
        };
    }
    let mut report = Report {
        total: empty,
        ..Report::default()
    };
    for source in &sources {
        report.total.add(source);
    }
    let named = data.sources().iter().zip(sources);
    report.sources = named
        .filter(|(name, measured)| !name.is_empty() && measured.tokens > 0)
        .map(|(name, measurement)| (name.clone(), measurement))
        .collect();
    Ok(report)
}

/// How batch number `at` of `rows` sequences runs.
fn forward_options(
    config: &ModelConfig,
    depth: EvaluateDepth,
    at: usize,
    rows: usize,
) -> Result<ForwardOptions> {
    let routing = &config.routing;
    Ok(match depth {
        EvaluateDepth::Configured => ForwardOptions::default(),
        EvaluateDepth::Adaptive if routing.kind == RouterKind::Fixed => {
            return Err(TrainError::Depth(
                "this model has no routers: its depth is fixed; leave out --depth, or name a number"
                    .to_owned(),
            ));
        }
        EvaluateDepth::Adaptive => ForwardOptions::default(),
        EvaluateDepth::Budget(budget) => ForwardOptions {
            depth: Depth::Budget(budget),
            ..ForwardOptions::default()
        },
        EvaluateDepth::Forced(depth) => ForwardOptions {
            depth: Depth::Forced(depth),
            ..ForwardOptions::default()
        },
        EvaluateDepth::Random(seed) => {
            let mut classes = routing.steps_of_classes();
            if config.architecture == Architecture::Recursive {
                // It takes at least one loop.
                classes.remove(0);
            }
            let mut rng = SplitMix64::of_stream(seed, at as u64);
            let layers = config.routed_depths();
            let mut draw = || classes[rng.below(classes.len())];
            let steps = (0..layers).map(|_| (0..rows).map(|_| draw()).collect());
            ForwardOptions {
                steps: Some(steps.collect()),
                ..ForwardOptions::default()
            }
        }
    })
}

/// The depths of one of a batch's rows in one layer: one, or one for each of its `inputs` first positions.
fn depths_of_row(steps: &[usize], rows: usize, row: usize, inputs: usize) -> &[usize] {
    let width = (steps.len() / rows.max(1)).max(1);
    let depths = steps.get(row * width..(row + 1) * width).unwrap_or(&[]);
    &depths[..depths.len().min(if width == 1 { 1 } else { inputs })]
}

/// The depths of a batch: of every layer and row, or, where positions have depths of their own, of those that count.
pub(crate) fn depths(steps: &[Vec<usize>], batch: &Batch) -> impl Iterator<Item = usize> {
    let counted = |steps: &[usize], at: usize| {
        steps.len() == batch.rows
            || batch
                .targets
                .get(at)
                .is_some_and(|target| *target != IGNORE)
    };
    steps.iter().flat_map(move |steps| {
        let all = steps.iter().enumerate();
        all.filter_map(move |(at, depth)| counted(steps, at).then_some(*depth))
    })
}

/// A batch's inputs or targets on a device, `[rows, width]`.
pub(crate) fn matrix(values: &[i64], batch: &Batch, device: &Device) -> Tensor<2, Int> {
    let data = TensorData::new(values.to_vec(), [batch.rows, batch.width]);
    Tensor::from_data(data, device)
}

/// The device that holds a model's parameters.
pub(crate) fn device_of(model: &Model) -> Device {
    model.devices().into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn bits_are_over_bytes_and_perplexity_over_tokens() {
        let measurement = Measurement {
            nats: 2.0 * std::f64::consts::LN_2,
            tokens: 2,
            bytes: 8,
            depths: vec![1, 0, 3],
            flops: 10.0,
            ..Measurement::default()
        };
        assert_relative_eq!(measurement.bits_per_byte(), 0.25);
        assert_relative_eq!(measurement.perplexity(), 2.0);
        assert_relative_eq!(measurement.mean_depth(), 1.5);
        assert_relative_eq!(measurement.flops_per_token(), 5.0);
    }

    #[test]
    fn a_row_has_one_depth_or_one_for_each_of_its_positions() {
        assert_eq!(depths_of_row(&[3, 1], 2, 1, 7), [1]);
        let steps = [1, 2, 3, 4, 5, 6];
        assert_eq!(depths_of_row(&steps, 2, 1, 2), [4, 5]);
        assert_eq!(depths_of_row(&steps, 2, 0, 9), [1, 2, 3]);
    }
}
