//! Model configuration, presets, parameter counts and checkpoint folders.
//!
//! A model folder follows the Hugging Face layout: `config.json` ([`ModelConfig`]) beside
//! `model.safetensors` ([`Weights`]). Both are untrusted input: every number is bounded before
//! anything is allocated from it, and every error names the file, what was found and what to do.

mod config;
mod error;
mod flops;
mod params;
mod preset;
mod weights;
#[cfg(feature = "fs")]
mod writer;

pub use config::{
    AdaptiveEmbedding, Architecture, Budget, Depth, HaltedRows, Limits, LoopKeys, ModelConfig,
    Pooling, Positions, RouterKind, RoutingConfig,
};
pub use error::ConfigError;
pub use params::{Component, ParameterCount, TensorSpec};
pub use preset::Preset;
pub use weights::{
    Floats, QUANTIZED_BLOCK, Weights, WeightsHeader, check_tensors, largest_magnitude, not_finite,
    quantize_block,
};
#[cfg(feature = "fs")]
pub use writer::{Precision, save_tensors, save_tensors_with, tensors_to_bytes};

/// File name of the configuration inside a model folder.
pub const CONFIG_FILE: &str = "config.json";
/// File name of the weights inside a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// `text` without the byte order mark that some editors put in front of it.
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}
