//! The `[train]` table. `configs/README.md` documents every key; a test keeps the two together.

use mor_kernels::MatmulPrecision;
use mor_model::RouterLoss;
use serde::{Deserialize, Serialize};

use crate::data::Overlong;
use crate::depth::DepthStage;
use crate::schedule::{Budget, Decay, Schedule};

/// How to train.
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
    /// Positions of a batch, padding included. Exactly one of `batch_tokens` and `batch_rows` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Sequences of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_rows: Option<usize>,
    /// Batches whose gradients add up to one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Longest sequence in inputs; defaults to the model's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// What happens to conversations that are longer than that.
    #[serde(default)]
    pub overlong: Overlong,
    /// Which tokens are learned.
    #[serde(default)]
    pub learn: Learn,
    /// Whether a padded sequence also learns to write one pad after its end, as the technical original does.
    #[serde(default)]
    pub pad_target: bool,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the run spent warming up.
    #[serde(default = "five_percent")]
    pub warmup: f64,
    /// Steps spent warming up, in place of a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Shape of the decay.
    #[serde(default = "cosine")]
    pub schedule: Decay,
    /// Share of the run over which the trapezoid decays.
    #[serde(default = "forty_percent")]
    pub decay_fraction: f64,
    /// Learning rate at the end, as a share of the peak.
    #[serde(default)]
    pub floor: f64,
    /// Whether the rate is set after each step, as in the technical original: the first step then runs at the peak
    /// rate, and each one after it at the rate that belonged to the step before.
    #[serde(default)]
    pub schedule_after_step: bool,
    /// Largest global norm of the gradient; 0 switches clipping off.
    #[serde(default = "unit")]
    pub clip_norm: f64,
    /// Seed of weights, data order, dropout and depths.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Steps between validations.
    #[serde(default = "validate_every")]
    pub validate_every: u64,
    /// Conversations of the validation file that are measured; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_rows: Option<usize>,
    /// Prompts answered greedily at each validation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<String>,
    /// Minutes between checkpoints.
    #[serde(default = "checkpoint_minutes")]
    pub checkpoint_minutes: f64,
    /// Steps between checkpoints, besides those by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_steps: Option<u64>,
    /// Checkpoints that are kept besides the best.
    #[serde(default = "keep")]
    pub keep: usize,
    /// Decay per step of the moving average of the weights, which is what gets measured and
    /// exported; absent: no average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Precision of the matrix products in training steps; measuring always uses `f32`. On a GPU f16 is what activations
    /// are stored in too, and bf16 is f32.
    #[serde(default)]
    pub matmul: Matmul,
    /// Factor on the loss at the start of a run with `matmul = "f16"`, which adapts it from then on.
    #[serde(default = "loss_scale")]
    pub loss_scale: f64,
    /// Price of a routed step in a technical model with routers: the loss grows by this times 0.1 for each step of
    /// each layer and row.
    #[serde(default)]
    pub compute_penalty: f64,
    /// What teaches routers.
    #[serde(default)]
    pub router: RouterSettings,
    /// Which optimizer.
    pub optimizer: OptimizerSettings,
    /// Depths to train at, by stage; absent: the depth of the model's configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depth: Vec<DepthStage>,
}

/// Which tokens are learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learn {
    /// Every token after the first.
    #[default]
    All,
    /// What assistants say, with the end of each turn.
    Assistant,
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
    /// Operands rounded to 16-bit floats, sums in `f32`, with dynamic loss scaling: what a GPU with 16-bit storage
    /// computes, for trying a recipe out. No faster than `f32` on a CPU.
    F16,
}

impl From<Matmul> for MatmulPrecision {
    fn from(matmul: Matmul) -> Self {
        match matmul {
            Matmul::F32 => Self::F32,
            Matmul::Bf16 => Self::Bf16,
            Matmul::F16 => Self::F16,
        }
    }
}

/// The `[train.router]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterSettings {
    /// Whether the routers of a technical model learn: what a step adds is then weighted, in the backward pass
    /// alone, by the probability of taking it (straight-through), and depths are drawn by their probabilities. The
    /// original's never learn.
    pub straight_through: bool,
    /// Weight of a conversational router's loss.
    pub weight: f32,
    /// Perplexities of a row that separate its classes, rising.
    pub thresholds: Vec<f32>,
    /// Largest mean loss of a row that a perplexity is computed from.
    pub max_loss: f32,
}

impl Default for RouterSettings {
    fn default() -> Self {
        let RouterLoss {
            thresholds,
            weight,
            max_loss,
            ..
        } = RouterLoss::default();
        Self {
            straight_through: true,
            weight,
            thresholds,
            max_loss,
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
fn keep() -> usize {
    2
}
fn loss_scale() -> f64 {
    65_536.0
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

impl TrainSettings {
    /// The budget; validation has made sure that there is exactly one.
    pub fn budget(&self) -> Budget {
        match (self.steps, self.epochs, self.minutes) {
            (Some(steps), ..) => Budget::Steps(steps),
            (_, Some(epochs), _) => Budget::Epochs(epochs),
            (.., minutes) => Budget::Minutes(minutes.unwrap_or(0.0)),
        }
    }

    /// How sequences are put into batches; validation has made sure that there is exactly one way.
    pub fn batch_size(&self) -> BatchSize {
        match (self.batch_rows, self.batch_tokens) {
            (Some(rows), _) => BatchSize::Rows(rows),
            (None, tokens) => BatchSize::Tokens(tokens.unwrap_or(1)),
        }
    }

    /// The learning rate over the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.lr,
            warmup: self.warmup,
            warmup_steps: self.warmup_steps,
            decay: self.schedule,
            decay_fraction: self.decay_fraction,
            floor: self.floor,
            after_step: self.schedule_after_step,
        }
    }

    /// What teaches routers.
    pub fn router_loss(&self) -> RouterLoss {
        RouterLoss {
            thresholds: self.router.thresholds.clone(),
            weight: self.router.weight,
            max_loss: self.router.max_loss,
            compute_penalty: self.compute_penalty as f32,
        }
    }
}

/// The size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// Sequences.
    Rows(usize),
    /// Positions, padding included.
    Tokens(usize),
}
