//! How fast something was.

use serde::{Deserialize, Serialize};

use crate::Status;

/// How fast a model decodes and reads prompts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Speed {
    /// The preset.
    pub preset: String,
    /// How weights are stored: `f32`, `f16` or `q8`.
    pub storage: String,
    /// The kernels.
    pub variant: String,
    /// What came of it.
    pub status: Status,
    /// Why it failed or did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Parameters of the model that ran: fewer than the preset's where the machine is too slow for it.
    pub parameters: usize,
    /// Whether it was the preset itself.
    pub whole: bool,
    /// Median of the runs.
    pub decode_tokens_per_second: f64,
    /// The same of reading a prompt.
    pub prefill_tokens_per_second: f64,
    /// Bytes of weights and caches that a decoded token needs.
    pub bytes_per_token: f64,
    /// Those times the tokens decoded a second.
    pub bytes_per_second: f64,
    /// That over what a plain copy kernel moves.
    pub share_of_copy: f64,
    /// Kernels launched for a decoded token.
    pub launches_per_token: f64,
}

/// How fast a model trains.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainingSpeed {
    /// The preset.
    pub preset: String,
    /// `f32` or `f16`.
    pub precision: String,
    /// What came of it.
    pub status: Status,
    /// Why it failed or did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Parameters of the model that ran.
    pub parameters: usize,
    /// Whether it was the preset itself.
    pub whole: bool,
    /// Sequences of a batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Of the median step.
    pub tokens_per_second: f64,
    /// Kernels launched for a step.
    pub launches_per_step: usize,
    /// Bytes that tensors take on the GPU after a step.
    pub bytes_in_use: u64,
    /// Bytes reserved for them.
    pub bytes_reserved: u64,
    /// Floating-point operations a second: three times those of the forward pass.
    pub flops_per_second: f64,
    /// That over what a plain matrix product reaches in the same precision.
    pub share_of_product: f64,
}
