//! Training recipes: what `configs/*.toml` say.
//!
//! ```toml
//! tokenizer = "../models/technical-10m"   # a folder, relative to this file; or --tokenizer
//!
//! [model]
//! preset = "technical-10m"                # further keys are config.json's and override the preset
//!
//! [train]
//! minutes = 120                           # or steps = N, or epochs = X
//! batch_tokens = 4096
//! learning_rate = 3e-3
//!
//! [train.optimizer]
//! kind = "muon"
//! ```

mod model;
mod validate;

use std::path::{Path, PathBuf};

use mor_config::ModelConfig;
use mor_kernels::MatmulPrecision;
use serde::{Deserialize, Serialize};

use crate::depth::DepthStage;
use crate::schedule::{Budget, Decay, Schedule};
use crate::{Result, TrainError};

/// A whole recipe, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Where it was read from; what errors call it.
    pub path: PathBuf,
    /// Its text, kept with the run.
    pub text: String,
    /// Folder of the tokenizer, if the recipe names one.
    pub tokenizer: Option<PathBuf>,
    /// The model to train.
    pub model: ModelConfig,
    /// Whether a smaller tokenizer makes the model's vocabulary smaller: when `[model]` does not set `vocab_size`.
    pub vocabulary_of_tokenizer: bool,
    /// How to train it.
    pub train: TrainSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokenizer: Option<PathBuf>,
    model: toml::Table,
    train: TrainSettings,
}

/// The `[train]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Budget in optimizer steps. Exactly one of `steps`, `epochs` and `minutes` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Budget in passes over the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Budget in minutes of training, summed over resumed sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Positions of a batch, padding included.
    pub batch_tokens: usize,
    /// Batches whose gradients add up to one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Longest sequence in inputs; defaults to the model's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Share of the run spent warming up.
    #[serde(default = "five_percent")]
    pub warmup: f64,
    /// Shape of the decay.
    #[serde(default = "cosine")]
    pub schedule: Decay,
    /// Share of the run over which the trapezoid decays.
    #[serde(default = "forty_percent")]
    pub decay_fraction: f64,
    /// Learning rate at the end, as a share of the peak.
    #[serde(default)]
    pub floor: f64,
    /// Largest global norm of the gradient; 0 switches clipping off.
    #[serde(default = "unit")]
    pub clip_norm: f64,
    /// Seed of weights, data order and depths.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Steps between validations.
    #[serde(default = "validate_every")]
    pub validate_every: u64,
    /// Conversations of the validation file that are measured; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_rows: Option<usize>,
    /// Minutes between checkpoints.
    #[serde(default = "checkpoint_minutes")]
    pub checkpoint_minutes: f64,
    /// Decay per step of the moving average of the weights, which is what gets measured and
    /// exported; absent: no average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Precision of the matrix products in training steps; measuring always uses `f32`.
    #[serde(default)]
    pub matmul: Matmul,
    /// Which optimizer.
    pub optimizer: OptimizerSettings,
    /// Depths to train at, by stage; absent: the depth of the model's configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depth: Vec<DepthStage>,
}

/// Precision of matrix products on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matmul {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands rounded to bfloat16, sums in `f32`: nearly twice as fast where the CPU has
    /// AVX-512 BF16, the same as `f32` elsewhere.
    Bf16,
}

impl From<Matmul> for MatmulPrecision {
    fn from(matmul: Matmul) -> Self {
        match matmul {
            Matmul::F32 => Self::F32,
            Matmul::Bf16 => Self::Bf16,
        }
    }
}

/// The `[train.optimizer]` table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerSettings {
    /// AdamW (Loshchilov and Hutter 2019) for everything.
    AdamW(AdamWSettings),
    /// Muon (Jordan 2024) for the matrices inside layers, AdamW for everything else.
    Muon(MuonSettings),
}

/// Settings of AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWSettings {
    /// Decay of the first and of the second moment.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Decoupled decay of every parameter.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
}

/// Settings of Muon. Its update has the root mean square of an AdamW step (about 0.2), so one
/// learning rate serves both halves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuonSettings {
    /// Decay of the (Nesterov) momentum.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Decoupled decay of the matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Moments of the AdamW half.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Epsilon of the AdamW half.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Learning rate of the token embedding and the head relative to the matrices'.
    #[serde(default = "unit")]
    pub embedding_rate: f64,
    /// Learning rate of biases and norms relative to the matrices'.
    #[serde(default = "unit")]
    pub vector_rate: f64,
}

fn one() -> usize {
    1
}
fn unit() -> f64 {
    1.0
}
fn five_percent() -> f64 {
    0.05
}
fn forty_percent() -> f64 {
    0.4
}
fn cosine() -> Decay {
    Decay::Cosine
}
fn seed() -> u64 {
    1
}
fn validate_every() -> u64 {
    500
}
fn checkpoint_minutes() -> f64 {
    5.0
}
fn betas() -> [f64; 2] {
    [0.9, 0.99]
}
fn epsilon() -> f64 {
    1e-8
}
fn weight_decay() -> f64 {
    0.01
}
fn momentum() -> f64 {
    0.95
}

impl Recipe {
    /// Reads and validates a recipe.
    ///
    /// # Errors
    /// [`TrainError::Io`], [`TrainError::Recipe`] or [`TrainError::Value`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        Self::parse(&text, path)
    }

    /// Parses and validates a recipe's text; `path` is where it stands.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| TrainError::Recipe {
            path: path.to_owned(),
            reason: one_line(text, &error),
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let recipe = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokenizer: file.tokenizer.map(|dir| base.join(dir)),
            vocabulary_of_tokenizer: !file.model.contains_key("vocab_size"),
            model: model::resolve(file.model, path)?,
            train: file.train,
        };
        recipe.validate()?;
        Ok(recipe)
    }

    /// Replaces the budget, as command-line options do.
    ///
    /// # Errors
    /// [`TrainError::Value`] for a budget of nothing.
    pub fn set_budget(&mut self, budget: Budget) -> Result<()> {
        let train = &mut self.train;
        (train.steps, train.epochs, train.minutes) = (None, None, None);
        match budget {
            Budget::Steps(steps) => train.steps = Some(steps),
            Budget::Epochs(epochs) => train.epochs = Some(epochs),
            Budget::Minutes(minutes) => train.minutes = Some(minutes),
        }
        self.validate()
    }
}

impl TrainSettings {
    /// The budget; validation has made sure that there is exactly one.
    pub fn budget(&self) -> Budget {
        match (self.steps, self.epochs, self.minutes) {
            (Some(steps), ..) => Budget::Steps(steps),
            (_, Some(epochs), _) => Budget::Epochs(epochs),
            (.., minutes) => Budget::Minutes(minutes.unwrap_or(0.0)),
        }
    }

    /// The learning rate over the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warmup: self.warmup,
            decay: self.schedule,
            decay_fraction: self.decay_fraction,
            floor: self.floor,
        }
    }
}

/// The TOML error with its line number, on one line.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    match error.span() {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            format!("line {line}: {message}")
        }
        None => message,
    }
}

#[cfg(test)]
mod tests;
