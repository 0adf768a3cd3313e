//! Loss, perplexity and bits per byte of a model on a dataset.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{Depth, ModelConfig};
use mor_model::{ForwardOptions, Model, Output};
use mor_text::Tokenizer;
use serde::Serialize;

use crate::data::{Batch, Dataset, IGNORE, Overlong, length_batches};
use crate::trainer::check_tokenizer;
use crate::{Result, TrainError};

/// What was measured on some text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Summed negative log-likelihood of the targets, in nats.
    pub nats: f64,
    /// Targets: every token after `<bos>`.
    pub tokens: u64,
    /// UTF-8 bytes of the message contents.
    pub bytes: u64,
    /// Conversations.
    pub rows: u64,
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

    fn add(&mut self, nats: f64, tokens: usize, bytes: usize) {
        self.nats += nats;
        self.tokens += tokens as u64;
        self.bytes += bytes as u64;
        self.rows += u64::from(bytes > 0);
    }

    /// The figures that reports print.
    pub fn summary(&self) -> Summary {
        Summary {
            loss: self.loss(),
            perplexity: self.perplexity(),
            bits_per_byte: self.bits_per_byte(),
            tokens: self.tokens,
            bytes: self.bytes,
            conversations: self.rows,
        }
    }
}

/// A measurement's figures, as reports and JSON give them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Nats per token.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Bits per UTF-8 byte of message content.
    pub bits_per_byte: f64,
    /// Targets scored.
    pub tokens: u64,
    /// UTF-8 bytes of message content.
    pub bytes: u64,
    /// Conversations scored.
    pub conversations: u64,
}

/// A dataset's measurement, in total and by source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Everything.
    pub total: Measurement,
    /// By the rows' `source`; empty where no row names one.
    pub sources: BTreeMap<String, Measurement>,
    /// How often each depth was taken, over layers and conversations, or positions where each has its own.
    pub depths: Vec<u64>,
}

/// A model folder and a data file, read and checked against each other.
#[derive(Debug)]
pub struct Evaluator {
    model: Model,
    data: Dataset,
}

/// Positions of a batch when measuring: enough to keep two cores busy, small enough for caches.
const BATCH_TOKENS: usize = 4096;

impl Evaluator {
    /// Reads a model folder and a data file; `limit` stops after so many conversations.
    ///
    /// # Errors
    /// A [`TrainError`] that names the file at fault, or a tokenizer that does not fit the model.
    pub fn load(model: &Path, data: &Path, limit: Option<usize>, device: &Device) -> Result<Self> {
        let config = ModelConfig::from_dir(model)?;
        let tokenizer = Tokenizer::from_dir(model)?;
        check_tokenizer(&tokenizer, model, config.vocab_size, config.pad_token_id)?;
        let context = config.max_position_embeddings;
        let data = Dataset::read(data, &tokenizer, context, Overlong::Split, limit)?;
        let model = Model::load(model, device)?;
        Ok(Self { model, data })
    }

    /// The data that is measured on.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Measures; see [`evaluate`].
    ///
    /// # Errors
    /// [`TrainError::Model`], such as for a depth that the model does not have.
    pub fn run(&self, depth: Depth, on_batch: impl FnMut(f64)) -> Result<Report> {
        evaluate(&self.model, &self.data, depth, BATCH_TOKENS, on_batch)
    }
}

/// Measures `model` on every target of `data`. `on_batch` hears the finished share after each
/// batch.
///
/// # Errors
/// [`TrainError::Model`] when the data does not fit the model.
pub fn evaluate(
    model: &Model,
    data: &Dataset,
    depth: Depth,
    batch_tokens: usize,
    mut on_batch: impl FnMut(f64),
) -> Result<Report> {
    let model = model.valid();
    let config = model.config().clone();
    let device = device_of(&model);
    let mut report = Report {
        depths: vec![0; config.routing.max_steps + 1],
        ..Report::default()
    };
    let mut sources = vec![Measurement::default(); data.sources().len()];
    let batches = length_batches(data, batch_tokens);
    for (done, rows) in batches.iter().enumerate() {
        let batch = Batch::new(data, rows, config.pad_token_id);
        let options = ForwardOptions {
            depth,
            ..ForwardOptions::default()
        };
        let (ids, targets) = tensors(&batch, &device);
        let Output { hidden, steps, .. } = model.forward(ids, &options)?;
        let losses = model.losses(hidden, targets, IGNORE)?.into_data();
        let losses = losses
            .as_slice::<f32>()
            .map_err(|error| TrainError::Tensor {
                name: "losses".to_owned(),
                reason: error.to_string(),
            })?;
        for (&row, losses) in rows.iter().zip(losses.chunks_exact(batch.width)) {
            let nats = losses.iter().map(|&loss| f64::from(loss)).sum();
            let (tokens, bytes) = (data.inputs(row), data.bytes(row));
            report.total.add(nats, tokens, bytes);
            if let Some(source) = sources.get_mut(data.source_of(row)) {
                source.add(nats, tokens, bytes);
            }
        }
        for depth in depths(&steps, &batch) {
            if let Some(count) = report.depths.get_mut(depth) {
                *count += 1;
            }
        }
        on_batch((done + 1) as f64 / batches.len() as f64);
    }
    let named = data.sources().iter().zip(sources);
    report.sources = named
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, measurement)| (name.clone(), measurement))
        .collect();
    Ok(report)
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

/// A batch's ids and targets on a device, both `[rows, width]`.
pub(crate) fn tensors(batch: &Batch, device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let tensor = |values: &Vec<i64>| {
        let data = TensorData::new(values.clone(), [batch.rows, batch.width]);
        Tensor::from_data(data, device)
    };
    (tensor(&batch.inputs), tensor(&batch.targets))
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
        let mut measurement = Measurement::default();
        measurement.add(2.0 * std::f64::consts::LN_2, 2, 8);
        assert_relative_eq!(measurement.bits_per_byte(), 0.25);
        assert_relative_eq!(measurement.perplexity(), 2.0);
        assert_eq!(measurement.rows, 1);
    }
}
